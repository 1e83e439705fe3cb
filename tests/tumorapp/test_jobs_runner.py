"""Jobs as they are run: held, interrupted, given up, swept away."""

import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from brainscan import Model
from tests.tumorapp.jobs import change, list_uploads, results, send, show
from tests.volumes import write_slices
from tumorapp.jobs import runner
from tumorapp.jobs.files import create_images, hold
from tumorapp.jobs.folder_store import FolderStore
from tumorapp.jobs.job import Scan
from tumorapp.jobs.material import MaterialReader
from tumorapp.jobs.runner import Jobs


@pytest.fixture
def client(jobs_app: Flask) -> FlaskClient:
    return jobs_app.test_client()


def test_erased_while_it_runs(
    client: FlaskClient, jobs: Jobs, scan: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = send(client, *((f"{n}.jpg", scan) for n in range(5)))
    predicted = []

    def erase_and_conclude(*arguments: Any, **options: Any) -> Any:
        client.delete(job["links"]["self"])
        found = conclude(*arguments, **options)
        predicted.extend(found)
        return found

    conclude = Model.conclude
    monkeypatch.setattr(Model, "conclude", erase_and_conclude)
    assert jobs.run_next()
    assert len(predicted) == runner.BATCH
    assert jobs.store.find(job["id"]) is None
    assert list_uploads(jobs) == set()


def test_what_is_old_goes(
    client: FlaskClient, jobs: Jobs, scan: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, kept = (send(client, ("a.jpg", scan)) for _ in range(2))
    change(jobs, "update job set created = created - 25 * 3600 where id = ?", old["id"])
    (jobs.store.place / "stray.upload").write_bytes(b"left by a worker that died")
    (jobs.store.place / "stray.lock").touch()
    with create_images(jobs.store.place) as (arriving, _):
        jobs.store.sweep(runner.MOST_KEPT)
        assert list_uploads(jobs) == {kept["id"], arriving}
    jobs.store.sweep(runner.MOST_KEPT)  # what arrived was not accepted
    assert list_uploads(jobs) == {kept["id"]}
    assert list(jobs.store.place.glob("*.lock")) == []
    assert client.get(old["links"]["self"]).status_code == 404
    # Of those that ended, the newest stay.
    newest = send(client, ("a.jpg", scan))
    assert jobs.run_next()
    assert jobs.run_next()
    monkeypatch.setattr(runner, "MOST_KEPT", 1)
    jobs.store.sweep(runner.MOST_KEPT)
    assert client.get(kept["links"]["self"]).status_code == 404
    assert show(client, newest)["state"] == "done"


def test_a_worker_leaves_the_job_that_another_runs(
    client: FlaskClient, jobs: Jobs, scan: bytes
) -> None:
    first, second = (send(client, ("a.jpg", scan)) for _ in range(2))
    with hold(jobs.store.place, first["id"]):
        assert jobs.run_next()
        assert not jobs.run_next()
        assert [show(client, job)["state"] for job in (first, second)] == ["waiting", "done"]
    assert jobs.run_next()
    assert show(client, first)["state"] == "done"


def test_a_scan_that_kills_every_worker_is_given_up(
    client: FlaskClient, jobs: Jobs, scan: bytes
) -> None:
    job = send(client, ("deadly.jpg", scan), ("a.jpg", scan))
    for _ in range(runner.MOST_STARTS):
        jobs.store.start(job["id"], job["version"], again=False)
    assert jobs.run_next()
    deadly, good = results(client, job)
    assert deadly["error"]["code"] == "given-up"
    assert good["label"]


def test_a_series_that_kills_every_worker_is_given_up_at_once(
    client: FlaskClient, jobs: Jobs
) -> None:
    slices = write_slices([1, 2, 3])
    job = send(client, *((f"a/{n}", one) for n, one in enumerate(slices)))
    jobs.store.group(job["id"], {0: 0, 1: 0, 2: 0})
    for _ in range(runner.MOST_STARTS):
        jobs.store.start(job["id"], job["version"], again=False)
    assert jobs.run_next()
    [given_up] = results(client, job)
    assert given_up["error"]["code"] == "given-up"


def test_a_series_is_neither_lost_nor_doubled_by_a_restart(
    client: FlaskClient, jobs: Jobs, scan: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices = write_slices([1, 2, 3])
    job = send(client, ("s.jpg", scan), *((f"a/{n}", one) for n, one in enumerate(slices)))

    def stop_at_second(reader: MaterialReader, wanted: Scan) -> Any:
        names.append(wanted.name)
        if names.count("a/1") == 2:  # the first time, its header was looked into
            jobs._stopping.set()
        return read(reader, wanted)

    names: list[str] = []
    read = MaterialReader.read
    monkeypatch.setattr(MaterialReader, "read", stop_at_second)
    assert jobs.run_next()
    assert show(client, job)["done"] == 0  # they are one batch
    monkeypatch.undo()
    jobs._stopping.clear()
    assert jobs.run_next()
    picture, series = results(client, job)
    assert (picture["filename"], len(series["slices"])) == ("s.jpg", 3)


def test_a_job_is_of_one_version(client: FlaskClient, jobs: Jobs, scan: bytes) -> None:
    job = send(client, ("a.jpg", scan))
    error = {"code": "given-up", "detail": "By version 0."}
    jobs.store.save(job["id"], {0: [{"filename": "a.jpg", "error": error}]})
    change(jobs, "update job set version = '0'")
    assert jobs.run_next()
    job = show(client, job)
    assert (job["version"], job["failed"]) == ("1", 0)


def test_a_full_disk_is_logged_once_and_jobs_go_on_after_it(
    jobs_app: Flask,
    client: FlaskClient,
    scan: bytes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    failures: list[str] = []
    full = threading.Event()
    full.set()

    def fail_first(method: Callable[..., Any]) -> Callable[..., Any]:
        def fail(*values: Any) -> Any:
            if full.is_set():
                failures.append(method.__name__)
                raise sqlite3.OperationalError("database or disk is full")
            return method(*values)

        return fail

    for name in ("save", "finish"):
        monkeypatch.setattr(FolderStore, name, fail_first(getattr(FolderStore, name)))
    monkeypatch.setattr(runner, "_SECONDS_AFTER_A_FAULT", 0.01)
    monkeypatch.setattr(runner, "_SECONDS_BETWEEN_LOOKS", 0.01)
    job = send(client, ("a.jpg", scan))
    deadline = time.monotonic() + 30
    while len(failures) < 2 * runner.MOST_STARTS:
        with hold(
            jobs_app.config["JOBS_DIR"], job["id"], wait=True
        ):  # another worker tries as well
            time.sleep(0.05)
        assert time.monotonic() < deadline
        time.sleep(0.1)
    full.clear()
    while (found := show(client, job))["finished"] is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert (found["state"], found["failed"]) == ("done", 0)
    assert [record.levelname for record in caplog.records if "full" in record.message] == ["ERROR"]


@pytest.mark.parametrize("gone", ["model", "images"])
def test_a_job_fails_whose_model_or_images_are_gone(
    client: FlaskClient, jobs: Jobs, scan: bytes, gone: str
) -> None:
    job = send(client, ("a.jpg", scan))
    if gone == "model":
        change(jobs, "update job set model = 'gone'")
    else:
        next(jobs.store.place.glob("*.upload")).unlink()
    assert jobs.run_next()
    job = show(client, job)
    assert job["state"] == "failed"
    assert job["error"]["code"] in ("unknown-model", "job-images-missing")
    assert results(client, job) == []
