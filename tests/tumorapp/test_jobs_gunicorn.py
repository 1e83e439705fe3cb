"""Jobs against gunicorn: what they survive."""

import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.tumorapp.servers import write_config
from tests.volumes import pack
from tumorapp.client import Client, Failure, Prediction, ProblemError
from tumorapp.jobs import runner

Serve = Callable[..., AbstractContextManager[Any]]

SCANS = 50


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, draw_scan: Callable[..., bytes]) -> Path:
    """A ZIP that takes a second or two, with a bad file in the middle."""
    scans = [draw_scan("PNG", width=700, height=800, spot=0.3 + n * 0.05) for n in range(5)]
    entries = [(f"{number:02}.png", scans[number % 5]) for number in range(SCANS)]
    entries[25] = ("25.png", b"no image")
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


def wait_until(service: Any, job: str, done: int) -> None:
    while (found := ask(service, f"/api/jobs/{job}"))["done"] < done:
        time.sleep(0.01)
    assert found["done"] < SCANS


def check_results(service: Any, job: str) -> None:
    deadline = time.monotonic() + 60
    while (found := ask(service, f"/api/jobs/{job}"))["state"] != "done":
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    outcomes = ask(service, f"/api/jobs/{job}/results")["predictions"]
    assert [one["filename"] for one in outcomes] == [f"{number:02}.png" for number in range(SCANS)]
    assert [number for number, one in enumerate(outcomes) if "error" in one] == [25]
    for number, one in enumerate(outcomes):  # the same five scans again and again
        if number != 25:
            expected = outcomes[number % 5]["probabilities"]
            assert one["probabilities"] == pytest.approx(expected, abs=1e-5)


def count_predictions(service: Any) -> int:
    pattern = re.compile(r"^tumorapp_predictions_total\{.*\} (\S+)$", re.MULTILINE)
    return sum(int(float(number)) for number in pattern.findall(service.ask("/metrics").text))


@pytest.mark.slow
def test_the_client_reads_a_stream_while_it_runs(service: Any, archive: Path) -> None:
    with Client(service.url) as client:
        job = client.submit_archive(archive)
        found = client.stream(job)
        first = next(found)
        assert not client.job(job.id).ended
        names = [first.filename, *(one.filename for one in found)]
        assert names == [f"{number:02}.png" for number in range(SCANS)]
        assert client.job(job.id).ended
        client.erase(job)
        with pytest.raises(ProblemError, match="no such job"):
            next(client.stream(job))


@pytest.mark.slow
def test_it_survives_its_workers_and_others_are_answered_meanwhile(
    models_dir: Path, tmp_path: Path, serve: Serve, archive: Path, scan: bytes
) -> None:
    with (
        serve(models_dir, tmp_path, WEB_CONCURRENCY="2") as service,
        Client(service.url) as client,
    ):
        job = client.submit_archive(archive)
        other = client.submit([scan, b"no image"], model="binary-cnn")
        for done in (8, 20):
            wait_until(service, job.id, done)
            assert client.predict(scan).predictions[0].label
            for process in service.workers():
                os.kill(process, signal.SIGKILL)
        check_results(service, job.id)
        other = client.wait(other)
        good, bad = client.results(other).predictions
        assert isinstance(good, Prediction)
        assert isinstance(bad, Failure)
        assert bad.filename == "image 2"
        # What was stored is not predicted again; a batch that was under way may be.
        assert count_predictions(service) <= SCANS + 2 + 2 * 2 * runner.BATCH
        assert list((tmp_path / "jobs").glob("*.upload")) == []
        client.erase(job)
        assert service.ask(f"/api/jobs/{job.id}").status_code == 404


@pytest.mark.slow
def test_another_replica_takes_it_over(
    models_dir: Path, tmp_path: Path, serve: Serve, redis: Any, archive: Path
) -> None:
    config = write_config(tmp_path, "tumorapp.jobs.redis_store", SECONDS_OF_LOCK=1)

    def start(name: str) -> AbstractContextManager[Any]:
        (folder := tmp_path / name).mkdir()
        return serve(models_dir, folder, config, TUMORAPP_REDIS=redis.url)

    with start("a") as first, start("b") as second:
        with Client(first.url) as client:
            job = client.submit_archive(archive).id
        wait_until(second, job, 8)
        survivor, runs = sorted((first, second), key=count_predictions)
        for process in (runs.process.pid, *runs.workers()):
            os.kill(process, signal.SIGKILL)
        before = ask(survivor, f"/api/jobs/{job}")["done"]
        check_results(survivor, job)
        assert count_predictions(survivor) <= SCANS - before


@pytest.mark.slow
def test_it_goes_on_after_a_restart(
    models_dir: Path, tmp_path: Path, serve: Serve, archive: Path
) -> None:
    with serve(models_dir, tmp_path) as service:
        with Client(service.url) as client:
            job = client.submit_archive(archive).id
        wait_until(service, job, 8)
    assert service.process.returncode == 0
    log = service.errors.read_text() + service.output.read_text()
    assert "Traceback" not in log
    assert job not in log
    with serve(models_dir, tmp_path) as service, Client(service.url) as client:
        seen = [client.job(job)]
        client.wait(seen[0], seen.append)
        assert [one.done for one in seen] == sorted(one.done for one in seen)
        assert seen[0].done >= 8
        check_results(service, job)
        assert count_predictions(service) < SCANS - 8
