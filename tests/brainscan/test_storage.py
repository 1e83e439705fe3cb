"""Files in a real S3 server, and what is said when one cannot be used."""

import json
from pathlib import Path

import pytest
import requests

from brainscan.storage import StorageError, explained, is_url, open_storage


def read(url: str) -> bytes:
    with explained(url):
        system, path = open_storage(url)
        content: bytes = system.cat_file(path)
        return content


def write(url: str, data: bytes) -> None:
    with explained(url):
        system, path = open_storage(url)
        system.pipe_file(path, data)


def test_what_is_written_is_read(bucket: str, tmp_path: Path) -> None:
    for root in (bucket, tmp_path.as_uri()):
        write(f"{root}/folder/scan.jpg", b"scan")
        assert read(f"{root}/folder/scan.jpg") == b"scan"
        with pytest.raises(FileNotFoundError):
            read(f"{root}/folder/other.jpg")


def test_google_cloud_storage(
    bucket: str, s3_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = bucket.removeprefix("s3://")
    url, public = f"{s3_server}/{name}/scan.jpg", {"x-amz-acl": "public-read"}
    requests.put(url, b"scan", headers=public, timeout=10).raise_for_status()
    account = {"gcs_base_url": s3_server, "disable_oauth": True}
    account |= dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
    (tmp_path / "account.json").write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(tmp_path / "account.json"))
    assert read(f"gs://{name}/scan.jpg") == b"scan"


@pytest.mark.parametrize(
    ("url", "environment", "word"),
    [
        ("s3://not-there/folder", {}, "NoSuchBucket"),
        ("s3://", {}, "names no bucket"),
        ("s3://my bucket/x", {}, "names no bucket"),
        ("s3://x", {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "127.0.0.1:9 does not answer"),
        ("s3://x", {"AWS_ENDPOINT_URL": "minio:9000"}, "AWS_ENDPOINT_URL cannot be used"),
    ],
)
def test_a_store_that_cannot_be_used(
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    url: str,
    environment: dict[str, str],
    word: str,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StorageError) as caught:
        read(url)
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_keys_without_rights(bucket: str, s3_server: str) -> None:
    def demand_rights_after(actions: str) -> None:
        requests.post(f"{s3_server}/moto-api/reset-auth", actions, timeout=10).raise_for_status()

    demand_rights_after("0")
    try:
        with pytest.raises(StorageError, match=r"does not exist in our records \(InvalidAccess"):
            read(f"{bucket}/scan.jpg")
    finally:
        demand_rights_after("inf")


def test_urls_and_paths() -> None:
    assert all(map(is_url, ("s3://bucket/x", "gs://bucket", "file:///x")))
    assert not any(map(is_url, ("/srv/s3", "s3/x", "scans")))
