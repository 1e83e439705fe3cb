"""Files are examined, those of a series together."""

from dataclasses import replace

import numpy as np
import pytest

from brainscan import (
    Examination,
    ImageFile,
    Model,
    Problem,
    ScanError,
    SeriesExamination,
    examine_files,
    open_model,
)
from tests.volumes import draw_small, write_dicom, write_files, write_slices


@pytest.fixture(scope="module")
def model() -> Model:
    return open_model("instance/models/lesion-lite0")


def test_each_series_has_its_own_answer(model: Model) -> None:
    first, second = write_files("a", [1, 2], "1.2"), write_files("b", [1, 2], "1.3")
    files = [first[0], second[0], ImageFile("c", b"none"), first[1], second[1]]
    one, other, refused = examine_files(model, files)
    assert isinstance(one, SeriesExamination)
    assert isinstance(other, SeriesExamination)
    assert isinstance(refused, ScanError)
    assert (one.name, other.name, refused.message.subject) == ("a", "b", "c")


def test_copies_of_one_slice_are_answered_as_the_slice_is(model: Model) -> None:
    file = ImageFile("a", write_slices([1])[0])
    [alone] = examine_files(model, [file])
    [again] = examine_files(model, [file, file])
    assert isinstance(again, Examination)
    assert again.probabilities == alone.probabilities
    assert again.warnings[0].code == "one-of-each"


def test_too_many_slices(model: Model) -> None:
    with pytest.raises(Problem) as caught:
        examine_files(model, write_files("a", [1, 2, 3]), max_slices=2)
    assert caught.value.code == "too-many-slices"
    large = ImageFile("large", write_dicom(np.tile(draw_small(), (64, 48))))  # 3 megapixels
    assert len(examine_files(model, [large], max_slices=3)) == 1
    with pytest.raises(Problem):
        examine_files(model, [large], max_slices=2)


def test_nothing_is_examined_where_a_file_is_not_to_be_skipped(model: Model) -> None:
    seen: list[object] = []
    observed = replace(model, observe=lambda found, _: seen.extend(found))
    files = [*write_files("a", [1, 2]), ImageFile("b", b"none")]
    with pytest.raises(ScanError, match="b: "):
        examine_files(observed, files, skip_bad=False)
    assert not seen
    examine_files(observed, files)
    assert len(seen) == 1


def test_a_blank_slice_is_refused_only_where_it_is_alone(model: Model) -> None:
    blank = np.zeros((32, 32), np.uint16)
    alone, *_ = write_slices([1], pixels=[blank])
    [refused] = examine_files(model, [ImageFile("a", alone)])
    assert isinstance(refused, ScanError)
    assert refused.code == "blank-image"
    files = write_slices([1, 2, 3], pixels=[blank, draw_small(), draw_small()])
    [whole] = examine_files(model, [ImageFile("a", data) for data in files])
    assert isinstance(whole, SeriesExamination)
    assert len(whole.slices) == 3
