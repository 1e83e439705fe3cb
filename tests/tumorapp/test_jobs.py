"""Jobs: the API against an application of its own, and what they survive against gunicorn."""

import csv
import io
import json
import os
import re
import signal
import sqlite3
import struct
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import pytest
import requests
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from tumorapp import create_app
from tumorapp.client import Client, Failure, Prediction
from tumorapp.errors import UnreadableScanError
from tumorapp.jobs import runner
from tumorapp.jobs.archive import Limits, list_archive
from tumorapp.jobs.errors import OversizedJobError, UnreadableArchiveError
from tumorapp.jobs.files import create_images, hold
from tumorapp.jobs.material import MaterialReader
from tumorapp.jobs.runner import Jobs
from tumorapp.jobs.store import Store

Serve = Callable[..., AbstractContextManager[Any]]
Form = Callable[..., dict[str, Any]]

LIMITS = Limits(bytes=2**20, images=10, image_bytes=2**19)


def pack(*entries: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in entries:
            archive.writestr(name, data)
    return file.getvalue()


def patch(archive: bytes, offset: int, value: bytes) -> bytes:
    """Change the first entry of an archive's directory at an offset."""
    start = archive.index(b"PK\x01\x02") + offset
    return archive[:start] + value + archive[start + len(value) :]


@pytest.fixture
def app(models_dir: Path, tmp_path: Path) -> Iterator[Flask]:
    settings = {"MAX_JOB_MB": 1, "MAX_JOB_IMAGES": 10, "MAX_JOBS": 2, "MAX_PIXELS": 100_000}
    app = create_app({"MODELS_DIR": models_dir, "JOBS_DIR": tmp_path / "jobs", **settings})
    yield app
    app.extensions["jobs"].close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def jobs(app: Flask, monkeypatch: pytest.MonkeyPatch) -> Jobs:
    """Give the jobs, which wait until `jobs.run_next()`: no thread runs them."""
    jobs: Jobs = app.extensions["jobs"]
    monkeypatch.setattr(jobs, "start", lambda: None)
    return jobs


def send(client: FlaskClient, archive: bytes, query: str = "") -> TestResponse:
    return client.post(f"/api/jobs{query}", data=archive, content_type="application/zip")


def finish(client: FlaskClient, response: TestResponse) -> dict[str, Any]:
    assert response.status_code == 202, response.get_data(as_text=True)
    address = response.headers["Location"]
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        job = client.get(address).get_json()
        if job["state"] not in ("waiting", "running"):
            return job
        time.sleep(0.02)
    pytest.fail(f"The job did not end: {job}")


def results(client: FlaskClient, job: dict[str, Any]) -> list[dict[str, Any]]:
    return client.get(job["links"]["results"]).get_json()["predictions"]


def list_uploads(app: Flask) -> list[Path]:
    return list(app.config["JOBS_DIR"].glob("*.upload"))


def test_a_zip_with_a_bad_file_between(app: Flask, client: FlaskClient, scan: bytes) -> None:
    archive = pack(
        ("patient/1/a.jpg", scan),
        ("notes.txt", b"no image"),
        ("patient/", b""),
        ("../../b.jpg", scan),
        ("__MACOSX/patient/1/._a.jpg", b"hidden"),
        (".DS_Store", b"hidden"),
    )
    response = send(client, archive)
    accepted = response.get_json()
    assert response.headers["Location"] == accepted["links"]["self"]
    assert (accepted["state"], accepted["total"], accepted["finished"]) == ("waiting", 3, None)
    job = finish(client, response)
    assert (job["state"], job["done"], job["failed"]) == ("done", 3, 1)
    first, bad, last = results(client, job)
    alone = client.post("/api/predict", data=scan, content_type="image/jpeg").get_json()
    assert first == alone["predictions"][0] | {"filename": "patient/1/a.jpg"}
    assert last == first | {"filename": "../../b.jpg"}
    assert bad["filename"] == "notes.txt"
    assert bad["error"].startswith("notes.txt: The file is not an image")
    assert list_uploads(app) == []


def test_a_form_of_many_images_for_a_named_model(
    client: FlaskClient, draw_scan: Callable[..., bytes], form: Form
) -> None:
    scans = [draw_scan("PNG", spot=0.3 + index * 0.05) for index in range(7)]
    large = draw_scan("PNG", width=400, height=400)
    sent = form(
        ("model", None, b"binary-cnn"),
        *(("image", f"{index}.png", data) for index, data in enumerate(scans)),
        ("image", "large.png", large),
        ("image", "", b""),
    )
    job = finish(client, client.post("/api/jobs", **sent))
    assert (job["model"], job["version"], job["total"]) == ("binary-cnn", "1", 8)
    *found, last = results(client, job)
    for index, (data, one) in enumerate(zip(scans, found, strict=True)):
        alone = client.post("/api/predict?model=binary-cnn", data=data, content_type="image/png")
        [expected] = alone.get_json()["predictions"]
        assert one["filename"] == f"{index}.png"
        assert one["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-5)
    assert "pixels" in last["error"]


def test_an_archive_as_a_part(client: FlaskClient, scan: bytes, form: Form) -> None:
    sent = form(("archive", "scans.zip", pack(("a.jpg", scan))))
    job = finish(client, client.post("/api/jobs?model=binary-cnn", **sent))
    assert [one["filename"] for one in results(client, job)] == ["a.jpg"]


@pytest.mark.parametrize(
    ("query", "headers"), [("?format=csv", {}), ("", {"Accept": "text/csv"})], ids=["query", "type"]
)
def test_results_as_csv(
    client: FlaskClient, scan: bytes, query: str, headers: dict[str, str]
) -> None:
    job = finish(client, send(client, pack(('a,"b".jpg', scan), ("bad.txt", b"?"))))
    response = client.get(job["links"]["results"] + query, headers=headers)
    assert response.mimetype == "text/csv"
    good, bad = csv.DictReader(io.StringIO(response.get_data(as_text=True)))
    [expected, _] = results(client, job)
    assert good["file"] == 'a,"b".jpg'
    assert good["label"] == expected["label"]
    assert float(good["p_glioma"]) == expected["probabilities"]["glioma"]
    assert (bad["file"], bad["label"]) == ("bad.txt", "")
    assert bad["error"].startswith("The file is not an image")
    wrong = client.get(job["links"]["results"] + "?format=xml")
    assert wrong.status_code == 400


def test_erased_when_its_owner_says_so(
    app: Flask, client: FlaskClient, scan: bytes, jobs: Jobs
) -> None:
    job = send(client, pack(("a.jpg", scan))).get_json()
    [upload] = list_uploads(app)
    assert upload.stat().st_mode & 0o777 == 0o600
    assert upload.parent.stat().st_mode & 0o777 == 0o700
    early = client.get(job["links"]["results"])
    assert (early.status_code, early.headers["Retry-After"]) == (409, "1")
    assert client.delete(job["links"]["self"]).status_code == 204
    assert list_uploads(app) == []
    for path in job["links"].values():
        assert client.get(path).status_code == 404
    assert client.delete(job["links"]["self"]).status_code == 404


def test_only_so_many_at_once(app: Flask, client: FlaskClient, scan: bytes, jobs: Jobs) -> None:
    accepted = [send(client, pack(("a.jpg", scan))).get_json() for _ in range(2)]
    refused = send(client, pack(("a.jpg", scan)))
    assert refused.status_code == 429
    assert refused.mimetype == "application/problem+json"
    assert refused.headers["Retry-After"] == "10"
    assert len(list_uploads(app)) == 2
    client.delete(accepted[0]["links"]["self"])
    assert send(client, pack(("a.jpg", scan))).status_code == 202


def claim(archive: bytes, size: int) -> bytes:
    """Claim a size of the first file once unpacked."""
    return patch(archive, 24, struct.pack("<I", size))


@pytest.mark.parametrize(
    ("archive", "status", "words"),
    [
        (b"", 422, "cannot be read as a ZIP"),
        (b"PK\x03\x04 and no more", 422, "cannot be read as a ZIP"),
        (pack(("folder/", b""), (".hidden", b"x")), 422, "has no files"),
        (patch(pack(("a.jpg", b"x")), 8, b"\x01"), 422, "is encrypted"),
        (pack(("a.jpg", b"x"), method=zipfile.ZIP_LZMA), 422, "way that is not accepted"),
        (pack(*((f"{n}.jpg", b"x") for n in range(11))), 413, "11 images were received"),
        (pack(("a.bmp", bytes(2**20 + 1))), 413, "1.0 MB once unpacked"),
        (claim(pack(("a.jpg", b"x")), 2**31), 413, "2048.0 MB once unpacked"),
        (pack(*((f"{n}/", b"") for n in range(2000))), 413, "The request holds more"),
        (bytes(2**20 + 1), 413, "The request holds more"),
    ],
    ids=[
        *("nothing", "cut", "empty", "encrypted", "lzma", "many", "bomb", "claim", "directory"),
        "large",
    ],
)
def test_archives_that_are_refused(app: Flask, archive: bytes, status: int, words: str) -> None:
    response = send(app.test_client(), archive)
    assert response.status_code == status
    assert response.mimetype == "application/problem+json"
    assert words in response.get_json()["detail"]
    assert list_uploads(app) == []


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([], 400),
        ([("picture", "a.jpg", b"x")], 400),
        ([("archive", "a.zip", pack(("a", b"x"))), ("image", "b.jpg", b"x")], 400),
        ([("image", "a.jpg", b"x"), ("heatmap", None, b"1")], 400),
        ([("image", "a.jpg", b"x"), ("colour", None, b"red")], 400),
        ([("image", "a.jpg", b"x"), ("model", None, b"vgg")], 404),
        ([("image", "a.jpg", b"x")] * 11, 413),
        ([("image", "a.jpg", b"x")] * 100, 413),
        ([("image", "a.jpg", bytes(2**20))], 413),
    ],
)
def test_forms_that_are_refused(app: Flask, form: Form, parts: Any, status: int) -> None:
    response = app.test_client().post("/api/jobs", **form(*parts))
    assert response.status_code == status, response.get_data(as_text=True)
    assert list_uploads(app) == []


def test_bodies_of_another_type_are_refused(app: Flask, scan: bytes) -> None:
    response = app.test_client().post("/api/jobs", data=scan, content_type="image/jpeg")
    assert response.status_code == 415
    assert "application/zip" in response.get_json()["accepted"]


def test_an_entry_larger_than_an_image_may_be_is_never_unpacked() -> None:
    file = io.BytesIO(pack(("a.bmp", bytes(2**19 + 1)), ("b.bmp", bytes(100))))
    large, small = list_archive(file, LIMITS)
    reader = MaterialReader(file, archive=True, limits=LIMITS)
    with pytest.raises(UnreadableScanError, match=r"It has 0\.5 MB"):
        reader.read(large)
    assert reader.read(small).data == bytes(100)


GOOD = pack(("a/b.jpg", b"some bytes" * 20), ("c.jpg", b"others"), ("d/", b""))


@given(st.data())
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_broken_archives_are_refused_and_nothing_else_happens(data: st.DataObject) -> None:
    changed = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
    file = io.BytesIO(changed[: data.draw(st.integers(len(changed) // 2, len(changed)))])
    try:
        scans = list_archive(file, LIMITS)
        reader = MaterialReader(file, archive=True, limits=LIMITS)
        for scan in scans:
            assert len(reader.read(scan).data) <= scan.size
    except (UnreadableArchiveError, UnreadableScanError, OversizedJobError):
        pass


def change(jobs: Jobs, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(jobs.folder / "jobs.db")) as store, store:
        store.execute(statement, values)


def test_what_is_old_goes(app: Flask, client: FlaskClient, scan: bytes, jobs: Jobs) -> None:
    old, kept = (send(client, pack(("a.jpg", scan))).get_json() for _ in range(2))
    change(jobs, "update job set created = created - 25 * 3600 where id = ?", old["id"])
    (jobs.folder / "stray.upload").write_bytes(b"left by a worker that died")
    (jobs.folder / "stray.lock").touch()
    with create_images(jobs.folder) as (arriving, _):
        jobs.sweep()
        found = {path.stem for path in list_uploads(app)}
        assert found == {kept["id"], arriving}
    assert client.get(old["links"]["self"]).status_code == 404
    jobs.sweep()  # what arrived was not accepted
    assert [path.stem for path in list_uploads(app)] == [kept["id"]]
    assert list(jobs.folder.glob("*.lock")) == []


def test_of_those_that_ended_the_newest_are_kept(
    client: FlaskClient, scan: bytes, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "MOST_KEPT", 1)
    old, new = (send(client, pack(("a.jpg", scan))).get_json() for _ in range(2))
    while jobs.run_next():
        pass
    jobs.sweep()
    assert client.get(old["links"]["self"]).status_code == 404
    assert client.get(new["links"]["self"]).get_json()["state"] == "done"


def test_one_worker_runs_a_job_while_another_runs_the_next(
    client: FlaskClient, scan: bytes, jobs: Jobs
) -> None:
    first, second = (send(client, pack(("a.jpg", scan))).get_json() for _ in range(2))
    with hold(jobs.folder, first["id"]):
        assert jobs.run_next()
        assert not jobs.run_next()
        states = [client.get(job["links"]["self"]).get_json()["state"] for job in (first, second)]
        assert states == ["waiting", "done"]
    assert jobs.run_next()
    assert client.get(first["links"]["self"]).get_json()["state"] == "done"


def test_a_scan_that_kills_every_worker_is_given_up(
    client: FlaskClient, scan: bytes, jobs: Jobs
) -> None:
    job = send(client, pack(("deadly.jpg", scan), ("a.jpg", scan))).get_json()
    for _ in range(runner.MOST_STARTS):
        jobs.store.start(job["id"], job["version"], again=False)
    assert jobs.run_next()
    job = client.get(job["links"]["self"]).get_json()
    assert (job["state"], job["failed"]) == ("done", 1)
    deadly, good = results(client, job)
    assert "the service stopped at each try" in deadly["error"]
    assert good["filename"] == "a.jpg"


def test_a_job_is_of_one_version(client: FlaskClient, scan: bytes, jobs: Jobs) -> None:
    job = send(client, pack(("a.jpg", scan))).get_json()
    jobs.store.save(job["id"], {0: {"filename": "a.jpg", "error": "By version 0."}})
    change(jobs, "update job set version = '0'")
    assert jobs.run_next()
    job = client.get(job["links"]["self"]).get_json()
    assert (job["version"], job["failed"]) == ("1", 0)


def test_a_full_disk_is_logged_once_and_jobs_go_on_after_it(
    client: FlaskClient,
    scan: bytes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures = iter(range(2 * runner.MOST_STARTS))

    def fail_first(method: Callable[..., Any]) -> Callable[..., Any]:
        def fail(*values: Any) -> Any:
            if next(failures, None) is not None:
                raise sqlite3.OperationalError("database or disk is full")
            return method(*values)

        return fail

    for name in ("save", "finish"):
        monkeypatch.setattr(Store, name, fail_first(getattr(Store, name)))
    monkeypatch.setattr(runner, "_SECONDS_AFTER_A_FAULT", 0.01)
    job = finish(client, send(client, pack(("a.jpg", scan))))
    assert (job["state"], job["failed"]) == ("done", 0)
    assert [record.levelname for record in caplog.records if "full" in record.message] == ["ERROR"]


@pytest.mark.parametrize("gone", ["model", "images"])
def test_a_job_fails_whose_model_or_images_are_gone(
    app: Flask, client: FlaskClient, scan: bytes, jobs: Jobs, gone: str
) -> None:
    job = send(client, pack(("a.jpg", scan))).get_json()
    if gone == "model":
        change(jobs, "update job set model = 'gone'")
    else:
        list_uploads(app)[0].unlink()
    assert jobs.run_next()
    job = client.get(job["links"]["self"]).get_json()
    assert job["state"] == "failed"
    assert "There is no model named 'gone'" in job["error"] or "images are gone" in job["error"]
    assert results(client, job) == []


def test_a_folder_that_cannot_be_used(models_dir: Path, tmp_path: Path, scan: bytes) -> None:
    occupied = tmp_path / "file"
    occupied.write_bytes(b"")
    app = create_app({"MODELS_DIR": models_dir, "JOBS_DIR": occupied / "jobs"})
    response = send(app.test_client(), pack(("a.jpg", scan)))
    assert response.status_code == 503
    assert str(occupied) not in response.get_data(as_text=True)


def test_they_can_be_switched_off(models_dir: Path, tmp_path: Path) -> None:
    app = create_app({"MODELS_DIR": models_dir, "JOBS_DIR": tmp_path / "jobs", "JOBS": "off"})
    assert app.test_client().post("/api/jobs").status_code == 404
    assert not (tmp_path / "jobs").exists()


def test_nothing_is_loaded_before_there_is_one(app: Flask) -> None:
    assert not app.config["JOBS_DIR"].exists()


# Against gunicorn.

SCANS = 60


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, draw_scan: Callable[..., bytes]) -> Path:
    """A ZIP that takes some seconds, with a bad file in its midst."""
    scans = [draw_scan("PNG", width=700, height=800, spot=0.3 + n * 0.05) for n in range(6)]
    entries = [(f"{number:02}.png", scans[number % 6]) for number in range(SCANS)]
    entries[30] = ("30.png", b"no image")
    path = tmp_path_factory.mktemp("archive") / "scans.zip"
    path.write_bytes(pack(*entries))
    return path


def ask(service: Any, path: str) -> dict[str, Any]:
    """Ask on a new connection, again where a worker has just died."""
    for _ in range(100):
        try:
            answer = service.ask(path)
        except requests.ConnectionError:
            time.sleep(0.05)
        else:
            assert answer.status_code == 200, answer.text
            return answer.json()
    return pytest.fail("There was no answer.")


def wait_until_midway(service: Any, job: str) -> None:
    while not (found := ask(service, f"/api/jobs/{job}"))["done"] >= 8:
        time.sleep(0.01)
    assert found["done"] < SCANS


def wait_until_done(service: Any, job: str) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while (found := ask(service, f"/api/jobs/{job}"))["state"] != "done":
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found


def check_results(service: Any, job: str) -> None:
    found = ask(service, f"/api/jobs/{job}/results")["predictions"]
    assert [one["filename"] for one in found] == [f"{number:02}.png" for number in range(SCANS)]
    assert [number for number, one in enumerate(found) if "error" in one] == [30]
    for number, one in enumerate(found):  # the same six scans again and again
        if number != 30:
            assert one["probabilities"] == pytest.approx(
                found[number % 6]["probabilities"], abs=1e-5
            )


def count_predictions(service: Any) -> int:
    pattern = re.compile(r"^tumorapp_predictions_total\{.*\} (\S+)$", re.MULTILINE)
    return sum(int(float(number)) for number in pattern.findall(service.ask("/metrics").text))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_it_survives_its_workers_death(
    models_dir: Path, tmp_path: Path, serve: Serve, archive: Path, workers: int
) -> None:
    with serve(models_dir, tmp_path, WEB_CONCURRENCY=str(workers)) as service:
        with Client(service.url) as client:
            job = client.submit_archive(archive).id
        wait_until_midway(service, job)
        for process in service.workers():
            os.kill(process, signal.SIGKILL)
        wait_until_done(service, job)
        check_results(service, job)
        # What was stored is not predicted again; the batch that was under way may be.
        assert SCANS - 1 <= count_predictions(service) <= SCANS - 1 + runner.BATCH
        assert list((tmp_path / "jobs").glob("*.upload")) == []


@pytest.mark.slow
def test_it_goes_on_after_a_restart(
    models_dir: Path, tmp_path: Path, serve: Serve, archive: Path
) -> None:
    with serve(models_dir, tmp_path) as service:
        with Client(service.url) as client:
            job = client.submit_archive(archive).id
        wait_until_midway(service, job)
        start = time.monotonic()
    assert time.monotonic() - start < 10
    assert service.process.returncode == 0
    assert "Traceback" not in service.errors.read_text()
    with serve(models_dir, tmp_path) as service:
        assert ask(service, f"/api/jobs/{job}")["done"] >= 8
        wait_until_done(service, job)
        check_results(service, job)
        assert count_predictions(service) < SCANS - 8


@pytest.mark.slow
def test_any_worker_answers_for_any_job_and_others_are_answered_meanwhile(
    models_dir: Path, tmp_path: Path, serve: Serve, archive: Path, scan: bytes
) -> None:
    with serve(models_dir, tmp_path, WEB_CONCURRENCY="2") as service, Client(service.url) as client:
        seen = []
        first = client.submit_archive(archive)
        second = client.submit([scan, b"no image"], model="binary-cnn")
        for _ in range(20):
            assert {ask(service, f"/api/jobs/{job.id}")["id"] for job in (first, second)}
            assert client.predict(scan).predictions[0].label
        first, second = client.wait(first, seen.append), client.wait(second)
        assert [job.done for job in seen] == sorted(job.done for job in seen)
        assert (first.state, first.total, first.done, first.failed) == ("done", SCANS, SCANS, 1)
        good, bad = client.results(second).predictions
        assert isinstance(good, Prediction)
        assert isinstance(bad, Failure)
        assert bad.filename == "image 2"
        client.erase(first)
        assert service.ask(f"/api/jobs/{first.id}").status_code == 404


@pytest.mark.slow
def test_a_running_job_can_be_cancelled(
    models_dir: Path, tmp_path: Path, serve: Serve, archive: Path
) -> None:
    with serve(models_dir, tmp_path) as service, Client(service.url) as client:
        job = client.submit_archive(archive)
        wait_until_midway(service, job.id)
        client.erase(job)
        assert list((tmp_path / "jobs").glob("*.upload")) == []
        time.sleep(0.5)
        predicted = count_predictions(service)
        time.sleep(0.5)
        assert count_predictions(service) == predicted < SCANS
    text = service.errors.read_text()
    assert "Traceback" not in text
    assert job.id not in text
    assert json.dumps(job.id) not in service.output.read_text()
