"""The jobs of the REST API: sent, shown, streamed and erased."""

import csv
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.tumorapp.jobs import accept, change, list_uploads, results, send, show
from tests.volumes import pack, write_slices
from tumorapp import create_app
from tumorapp.jobs import api
from tumorapp.jobs.runner import Jobs

Form = Callable[..., dict[str, Any]]


@pytest.fixture
def client(jobs_app: Flask) -> FlaskClient:
    return jobs_app.test_client()


def test_a_zip_with_a_bad_file_between(client: FlaskClient, jobs: Jobs, scan: bytes) -> None:
    job = send(
        client,
        ("patient/1/a.jpg", scan),
        ("notes\u202e.txt", b"no image"),
        ("patient/", b""),
        ("../../b.jpg", scan),
        ("__MACOSX/patient/1/._a.jpg", b"hidden"),
        (".DS_Store", b"hidden"),
    )
    assert (job["state"], job["total"], job["finished"]) == ("waiting", 3, None)
    assert jobs.run_next()
    job = show(client, job)
    assert (job["state"], job["done"], job["failed"]) == ("done", 3, 1)
    first, bad, last = results(client, job)
    alone = client.post("/api/predict", data=scan, content_type="image/jpeg").get_json()
    assert first == alone["predictions"][0] | {"filename": "patient/1/a.jpg"}
    assert last == first | {"filename": "../../b.jpg"}
    assert bad["filename"] == "notes\ufffd.txt"
    assert bad["error"]["code"] == "not-an-image"
    assert list_uploads(jobs) == set()


def test_a_form_of_many_images_for_a_named_model(
    client: FlaskClient, jobs: Jobs, draw_scan: Callable[..., bytes], form: Form
) -> None:
    scans = [draw_scan("PNG", spot=0.3 + index * 0.05) for index in range(7)]
    sent = form(
        ("model", None, b"binary-cnn"),
        *(("image", f"{index}.png", data) for index, data in enumerate(scans[:5])),
        *((name, f"{n}.png", scans[n]) for n, name in ((5, "image[]"), (6, "file"))),
        ("file", "large.png", draw_scan("PNG", width=400, height=400)),
        ("image", "", b""),
    )
    job = accept(client.post("/api/jobs", **sent))
    assert (job["model"], job["version"], job["total"]) == ("binary-cnn", "1", 8)
    assert jobs.run_next()
    *found, last = results(client, job)
    for index, (data, one) in enumerate(zip(scans, found, strict=True)):
        alone = client.post("/api/predict?model=binary-cnn", data=data, content_type="image/png")
        [expected] = alone.get_json()["predictions"]
        assert one["filename"] == f"{index}.png"
        assert one["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-5)
    assert last["error"]["code"] == "image-too-large"


def test_an_archive_as_a_part(client: FlaskClient, jobs: Jobs, scan: bytes, form: Form) -> None:
    sent = form(("archive", "scans.zip", pack(("a.jpg", scan))))
    job = accept(client.post("/api/jobs?model=binary-cnn", **sent))
    assert jobs.run_next()
    assert [one["filename"] for one in results(client, job)] == ["a.jpg"]


@pytest.mark.parametrize(
    ("query", "headers"), [("?format=csv", {}), ("", {"Accept": "text/csv"})], ids=["query", "type"]
)
def test_results_as_csv(
    client: FlaskClient, jobs: Jobs, scan: bytes, query: str, headers: dict[str, str]
) -> None:
    job = send(client, ('a,"b".jpg', scan), ("bad.txt", b"?"))
    assert jobs.run_next()
    response = client.get(job["links"]["results"] + query, headers=headers)
    assert response.mimetype == "text/csv"
    good, bad = csv.DictReader(io.StringIO(response.get_data(as_text=True)))
    [expected, _] = results(client, job)
    assert (good["file"], good["label"]) == ('a,"b".jpg', expected["label"])
    assert good["verdict"] == expected["verdict"]
    assert float(good["p_glioma"]) == expected["probabilities"]["glioma"]
    assert (bad["file"], bad["label"]) == ("bad.txt", "")
    assert bad["codes"] == "not-an-image"
    assert client.get(job["links"]["results"] + "?format=xml").status_code == 400


def test_a_series_has_its_result_in_the_place_of_its_first_file(
    client: FlaskClient, jobs: Jobs, scan: bytes
) -> None:
    slices, other = write_slices([3, 1, 2]), write_slices([1, 2], "1.9")
    names = ["a/0", "b/0", "a/1", "s.jpg", "a/2", "b/1", "bad"]
    data = [slices[0], other[0], slices[1], scan, slices[2], other[1], b"?"]
    job = send(client, *zip(names, data, strict=True))
    assert jobs.run_next()
    job = show(client, job)
    assert (job["total"], job["done"], job["failed"]) == (7, 7, 1)
    found = results(client, job)
    assert [one["filename"] for one in found] == ["a", "b", "s.jpg", "bad"]
    assert [one["position_mm"] for one in found[0]["slices"]] == [1, 2, 3]
    lines = client.get(job["links"]["results"] + "?format=ndjson").text.splitlines()
    assert [json.loads(line)["filename"] for line in lines] == ["a", "b", "s.jpg", "bad"]
    table = client.get(job["links"]["results"] + "?format=csv").text
    rows = list(csv.DictReader(io.StringIO(table)))
    assert [row["slice"] for row in rows] == ["", "0", "1", "2", "", "0", "1", "", ""]
    assert [row["slices"] for row in rows if not row["slice"]] == ["3", "2", "", ""]
    assert rows[1]["position_mm"] == "1.0"
    assert {row["file"] for row in rows[:4]} == {"a"}


class TestStream:
    """Results as NDJSON, which come while the job runs."""

    @pytest.fixture
    def pass_time(self, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
        """Let these happen, one after another, where the stream waits for more."""

        def prepare(*steps: Callable[[], object]) -> None:
            turns = iter(steps)
            clock = {**vars(time), "sleep": lambda _: next(turns)()}
            monkeypatch.setattr(api, "time", SimpleNamespace(**clock))

        return prepare

    @staticmethod
    def read(client: FlaskClient, job: dict[str, Any]) -> list[Any]:
        response = client.get(job["links"]["results"] + "?format=ndjson")
        assert response.mimetype == "application/x-ndjson"
        assert response.headers["X-Accel-Buffering"] == "no"
        return [line and json.loads(line) for line in response.text.splitlines()]

    def test_a_line_for_each_result(self, client: FlaskClient, jobs: Jobs, scan: bytes) -> None:
        job = send(client, ("a.jpg", scan), ("notes.txt", b"?"), ("b.jpg", scan))
        assert jobs.run_next()
        found = self.read(client, job)
        model = {"model": "mobilenet-v2", "version": "1"}
        assert found == [{**model, **one} for one in results(client, job)]
        accepted = {"Accept": "application/x-ndjson"}
        assert len(client.get(job["links"]["results"], headers=accepted).text.splitlines()) == 3

    def test_they_come_while_it_runs(
        self,
        client: FlaskClient,
        jobs: Jobs,
        scan: bytes,
        pass_time: Callable[..., None],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(api, "SECONDS_OF_SILENCE", 0)
        job = send(client, ("a.jpg", scan), ("b.jpg", scan))
        other = {"filename": "a.jpg", "label": "made up"}
        pass_time(
            lambda: jobs.store.save(job["id"], {0: [other]}),
            lambda: None,
            lambda: change(jobs, "update job set version = '0'"),
            jobs.run_next,  # by version 1, and from the first file on
        )
        lines = self.read(client, job)
        assert lines[0] == ""  # nothing yet
        found = [line for line in lines if line]
        assert found[0] == {"model": "mobilenet-v2", "version": "1", **other}
        seen = [(one["version"], one["filename"]) for one in found]
        assert seen == [("1", "a.jpg"), ("0", "a.jpg"), ("1", "a.jpg"), ("1", "b.jpg")]

    def test_why_there_are_no_more(
        self, client: FlaskClient, jobs: Jobs, scan: bytes, pass_time: Callable[..., None]
    ) -> None:
        job = send(client, ("a.jpg", scan))
        next(jobs.store.place.glob("*.upload")).unlink()
        pass_time(jobs.run_next)
        [failed] = self.read(client, job)
        assert failed["error"]["code"] == "job-images-missing"
        erased = send(client, ("a.jpg", scan))
        pass_time(lambda: client.delete(erased["links"]["self"]))
        [gone] = self.read(client, erased)
        assert gone["error"]["code"] == "unknown-job"
        broken = send(client, ("a.jpg", scan))
        pass_time(lambda: (jobs.store.file.unlink(), jobs.store.file.mkdir()))
        [unavailable] = self.read(client, broken)
        assert unavailable["error"]["code"] == "jobs-unavailable"


def test_erased_when_its_owner_says_so(client: FlaskClient, jobs: Jobs, scan: bytes) -> None:
    job = send(client, ("a.jpg", scan))
    [upload] = jobs.store.place.glob("*.upload")
    assert upload.stat().st_mode & 0o777 == 0o600
    assert upload.parent.stat().st_mode & 0o777 == 0o700
    early = client.get(job["links"]["results"])
    assert (early.status_code, early.headers["Retry-After"]) == (409, "1")
    assert client.delete(job["links"]["self"]).status_code == 204
    assert not upload.exists()
    for path in job["links"].values():
        assert client.get(path).status_code == 404
    assert client.delete(job["links"]["self"]).status_code == 404


def test_only_so_many_at_once(client: FlaskClient, jobs: Jobs, scan: bytes) -> None:
    first, second = (send(client, ("a.jpg", scan)) for _ in range(2))
    refused = client.post("/api/jobs", data=pack(("a", b"x")), content_type="application/zip")
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "10")
    assert refused.mimetype == "application/problem+json"
    assert list_uploads(jobs) == {first["id"], second["id"]}
    client.delete(first["links"]["self"])
    send(client, ("a.jpg", scan))


def test_a_folder_that_cannot_be_used(models_dir: Path, tmp_path: Path, scan: bytes) -> None:
    occupied = tmp_path / "file"
    occupied.write_bytes(b"")
    client = create_app({"MODELS_DIR": models_dir, "JOBS_DIR": occupied / "jobs"}).test_client()
    response = client.post("/api/jobs", data=pack(("a.jpg", b"x")), content_type="application/zip")
    assert response.status_code == 503
    assert str(occupied) not in response.get_data(as_text=True)
    assert client.post("/api/predict", data=scan, content_type="image/jpeg").status_code == 200


def test_they_can_be_switched_off(models_dir: Path, tmp_path: Path) -> None:
    app = create_app({"MODELS_DIR": models_dir, "JOBS_DIR": tmp_path / "jobs", "JOBS": "off"})
    assert app.test_client().post("/api/jobs").status_code == 404
