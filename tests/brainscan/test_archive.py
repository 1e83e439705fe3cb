import io
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from brainscan import Archive, ImageFile, ScanError
from tests.volumes import pack


def test_its_files_one_after_another() -> None:
    data = pack(("a/1", b"x"), ("a/", b""), ("../2", b"yy"), (".3", b""), ("__MACOSX/4", b""))
    found = Archive(io.BytesIO(data)).read_files(most_bytes=1)
    assert next(found) == ImageFile("a/1", b"x")
    [large] = found
    assert isinstance(large, ScanError)
    assert (large.code, large.message.subject) == ("file-too-large", "../2")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_file_may_be_larger_than_the_directory(method: int) -> None:
    data = np.random.default_rng(0).bytes(2**18)
    archive = Archive(io.BytesIO(pack(("a", data), method=method)), most_files=1)
    assert list(archive.read_files()) == [ImageFile("a", data)]


GOOD = pack(("a/b.jpg", b"some bytes" * 20), ("c.jpg", b"others"), ("d/", b""))


@given(st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_broken_archives_are_refused_and_nothing_else_happens(data: st.DataObject) -> None:
    changed = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    file = io.BytesIO(changed[: data.draw(st.integers(len(changed) // 2, len(changed)))])
    try:
        archive = Archive(file, most_files=10, most_bytes=2**20)
    except ScanError:
        return
    sizes = [member.size for member in archive.members]
    for one, size in zip(archive.read_files(), sizes, strict=True):
        assert isinstance(one, ScanError) or len(one.data) <= size
