"""Bundles in a real S3 server, and the folder that follows them."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from brainscan.bundle import BundleError, PublishError, installed_versions, read_bundle
from brainscan.bundle.manifest import write_manifest
from brainscan.bundle.remote import Mirror, RemoteBundles
from brainscan.storage import MissingFileError, open_storage

Publish = Callable[..., Path]


@pytest.fixture
def url(bucket: str) -> str:
    return f"{bucket}/team/models"


@pytest.fixture
def remote(url: str, models_dir: Path) -> RemoteBundles:
    """A store with `binary-cnn` 1, which has a report, and `mobilenet-v2` 1."""
    (models_dir / "binary-cnn" / "1" / "report").mkdir()
    (models_dir / "binary-cnn" / "1" / "report" / "README.md").write_text("figures")
    write_manifest(models_dir / "binary-cnn" / "1")
    remote = RemoteBundles(url)
    for name in ("binary-cnn", "mobilenet-v2"):
        assert remote.push(models_dir / name / "1")
    return remote


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return tmp_path / "copy"


def put(url: str, file: str, data: bytes) -> None:
    system, path = open_storage(url)
    system.pipe_file(f"{path}/{file}", data)


def test_a_folder_follows_the_store(
    remote: RemoteBundles, copy: Path, models_dir: Path, publish_model: Publish
) -> None:
    mirror = Mirror(remote.url, copy)
    assert mirror.follow() == {}
    assert installed_versions(copy) == {"binary-cnn": [1], "mobilenet-v2": [1]}
    for file in (models_dir / "binary-cnn" / "1").rglob("*"):
        if file.is_file():
            assert (copy / file.relative_to(models_dir)).read_bytes() == file.read_bytes()

    remote.push(publish_model(models_dir, "binary-cnn"))
    remote.pin("binary-cnn", 1)
    mirror.follow()
    assert read_bundle(copy / "binary-cnn" / "2").version == 2
    assert (copy / "binary-cnn" / "active").read_text() == "1\n"

    remote.remove(("binary-cnn", 1), pinned=True)
    mirror.follow()
    assert installed_versions(copy)["binary-cnn"] == [2]
    assert not (copy / "binary-cnn" / "active").exists()
    remote.pin("binary-cnn", None)  # where nothing was chosen, that changes nothing


def test_a_version_is_pushed_once(
    remote: RemoteBundles, models_dir: Path, publish_model: Publish, tmp_path: Path
) -> None:
    assert not remote.push(models_dir / "binary-cnn" / "1")
    other = publish_model(tmp_path / "others", "binary-cnn", limits="Others.")
    with pytest.raises(PublishError, match=r"has another binary-cnn/1\. .*as a new version"):
        remote.push(other)
    (other / "graph.bin").write_bytes(b"spoilt")
    with pytest.raises(BundleError, match="was changed"):
        remote.push(other)


def test_an_upload_that_is_not_finished_is_left_out_until_it_is(
    remote: RemoteBundles, copy: Path, models_dir: Path, publish_model: Publish
) -> None:
    bundle = publish_model(models_dir, "binary-cnn")
    mirror = Mirror(remote.url, copy)
    reasons = []
    for file in ("card.json", "graph.xml", "SHA256SUMS", "graph.bin"):
        put(remote.url, f"binary-cnn/2/{file}", (bundle / file).read_bytes())
        reasons.append(mirror.follow().get(("binary-cnn", 2), ""))
        assert (copy / "binary-cnn" / "2").exists() == (file == "graph.bin")
    assert [reason.partition(". ")[0] for reason in reasons] == [
        f"SHA256SUMS is not in {remote.url}",
        f"SHA256SUMS is not in {remote.url}",
        f"graph.bin is not in {remote.url}",
        "",
    ]
    assert not list(copy.glob(".staging-*"))


def test_a_version_that_is_not_as_published_is_left_out(
    remote: RemoteBundles, copy: Path, models_dir: Path, publish_model: Publish
) -> None:
    remote.push(publish_model(models_dir, "binary-cnn"))
    put(remote.url, "binary-cnn/2/graph.bin", b"spoilt")
    put(remote.url, "mobilenet-v2/2/SHA256SUMS", b"0" * 64 + b"  ../../../outside\n")
    assert Mirror(remote.url, copy).follow() == {
        ("binary-cnn", 2): "graph.bin was changed since it was published.",
        ("mobilenet-v2", 2): "../../../outside lies outside the bundle.",
    }
    assert installed_versions(copy) == {"binary-cnn": [1], "mobilenet-v2": [1]}


def test_a_wrong_url_takes_nothing_away(remote: RemoteBundles, copy: Path) -> None:
    Mirror(remote.url, copy).follow()
    with pytest.raises(MissingFileError, match="/wrong does not exist"):
        Mirror(f"{remote.url}/wrong", copy).follow()
    assert installed_versions(copy) == {"binary-cnn": [1], "mobilenet-v2": [1]}


def test_models_that_are_not_from_a_store_are_not_deleted(
    remote: RemoteBundles, models_dir: Path, publish_model: Publish
) -> None:
    publish_model(models_dir, "binary-cnn")
    with pytest.raises(OSError, match="are not from a store"):
        Mirror(remote.url, models_dir).follow()
    assert installed_versions(models_dir)["binary-cnn"] == [1, 2]


def test_what_was_damaged_here_is_fetched_again(remote: RemoteBundles, copy: Path) -> None:
    Mirror(remote.url, copy).follow()
    (copy / "binary-cnn" / "1" / "graph.bin").write_bytes(b"spoilt")
    shutil.rmtree(copy / "mobilenet-v2")
    Mirror(remote.url, copy).follow()
    for name in ("binary-cnn", "mobilenet-v2"):
        read_bundle(copy / name / "1")


def test_several_processes_share_the_folder(
    remote: RemoteBundles, copy: Path, models_dir: Path, publish_model: Publish
) -> None:
    for _ in range(4):
        remote.push(publish_model(models_dir, "binary-cnn"))
    mirrors = [Mirror(remote.url, copy) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(Mirror.follow, mirrors)) == [{}] * 4
    for version in range(1, 6):
        read_bundle(copy / "binary-cnn" / str(version))
    assert not list(copy.glob(".staging-*"))
