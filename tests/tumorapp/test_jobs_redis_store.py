"""Jobs in a Redis: replicas without a common disk, and what they survive."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from redis import Redis

from brainscan import Model
from tests.tumorapp.jobs import send, show
from tests.volumes import pack, write_slices
from tumorapp import create_app
from tumorapp.jobs import redis_store, runner
from tumorapp.jobs.runner import Jobs

Replica = tuple[FlaskClient, Jobs]


@pytest.fixture(scope="module")
def make(
    app: Flask, tmp_path_factory: pytest.TempPathFactory, redis_server: Any
) -> Callable[..., Replica]:
    """Make a replica."""

    def make(redis: str | None = redis_server.url) -> Replica:
        own = {"JOBS_DIR": tmp_path_factory.mktemp("jobs"), "MAX_JOBS": 2, "REDIS": redis}
        made = create_app({"MODELS_DIR": app.config["MODELS_DIR"], **own})
        return made.test_client(), made.extensions["jobs"]

    return make


@pytest.fixture(scope="module")
def both(make: Callable[..., Replica]) -> tuple[Replica, Replica]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Jobs, "start", lambda _: None)
        return make(), make()


@pytest.fixture
def replicas(
    both: tuple[Replica, Replica], redis: Any, monkeypatch: pytest.MonkeyPatch
) -> tuple[Replica, Replica]:
    """Two replicas whose jobs wait for `run_next()`."""
    monkeypatch.setattr(Jobs, "start", lambda _: None)
    return both


@pytest.fixture
def known(redis: Any) -> Iterator[Any]:
    """What Redis knows."""
    with Redis.from_url(redis.url, decode_responses=True) as client:
        yield client


def results(client: FlaskClient, job: dict[str, Any], query: str = "") -> str:
    return client.get(job["links"]["results"] + query).text


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """Let something happen once, while a scan of a job is predicted."""

    def prepare(happen: Callable[[], object]) -> None:
        def conclude(*arguments: Any, **options: Any) -> Any:
            monkeypatch.setattr(Model, "conclude", original)
            happen()
            return original(*arguments, **options)

        monkeypatch.setattr(Model, "conclude", conclude)

    original = Model.conclude
    return prepare


def test_any_replica_answers_for_any_job_as_one_alone_does(
    replicas: tuple[Replica, Replica], make: Callable[..., Replica], known: Any, scan: bytes
) -> None:
    (first, jobs), (second, others) = replicas
    slices = [(f"head/{number}", data) for number, data in enumerate(write_slices([2, 1, 3]))]
    entries = [("a.jpg", scan), slices[0], ("notes.txt", b"?"), *slices[1:], ("b.jpg", scan)]
    job = send(first, *entries)
    assert show(second, job) == job
    assert others.run_next()
    done = show(first, job)
    assert (done["state"], done["total"], done["done"], done["failed"]) == ("done", 6, 6, 1)
    third, alone = make(None)
    expected = send(third, *entries)
    assert alone.run_next()
    for query in ("", "?format=csv", "?format=ndjson"):
        assert results(first, job, query) == results(third, expected, query)
    assert not jobs.run_next()
    # Nobody erases it, and Redis still does.
    assert known.keys("tumorapp:*:*") == [f"tumorapp:job:{job['id']}"]
    assert 23.9 * 3600 < known.ttl(f"tumorapp:job:{job['id']}") <= 24 * 3600
    assert second.delete(job["links"]["self"]).status_code == 204
    assert first.get(job["links"]["results"]).status_code == 404
    assert known.keys() == []


def test_erased_by_another_replica_while_it_runs(
    replicas: tuple[Replica, Replica], known: Any, scan: bytes, meanwhile: Any
) -> None:
    (first, _), (_, others) = replicas
    job = send(first, *((f"{number}.jpg", scan) for number in range(5)))
    meanwhile(lambda: first.delete(job["links"]["self"]))
    assert others.run_next()
    assert known.keys() == []


def test_only_so_many_at_once(replicas: tuple[Replica, Replica], known: Any, scan: bytes) -> None:
    (first, _), (second, _) = replicas
    jobs = [send(client, ("a.jpg", scan))["id"] for client in (first, second)]
    refused = first.post("/api/jobs", data=pack(("a", b"x")), content_type="application/zip")
    assert refused.status_code == 429
    assert {*known.keys("*:images:*")} == {f"tumorapp:images:{job}" for job in jobs}


def test_a_job_is_held_while_it_runs_however_long_that_takes(
    replicas: tuple[Replica, Replica], scan: bytes, meanwhile: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first, jobs), (_, others) = replicas
    monkeypatch.setattr(redis_store, "SECONDS_OF_LOCK", 0.3)
    job = send(first, ("a.jpg", scan))
    ran = []
    meanwhile(lambda: (time.sleep(0.6), ran.append(others.run_next())))
    assert jobs.run_next()
    assert ran == [False]
    assert show(first, job)["state"] == "done"


def test_a_replica_that_was_away_for_too_long_stores_nothing(
    replicas: tuple[Replica, Replica], known: Any, scan: bytes, meanwhile: Any
) -> None:
    (first, jobs), (_, others) = replicas
    job = send(first, ("a.jpg", scan), ("notes.txt", b"?"), ("b.jpg", scan))

    def take_over() -> None:
        assert known.delete(f"tumorapp:lock:{job['id']}")  # as when its time has run out
        assert others.run_next()

    meanwhile(take_over)
    assert jobs.run_next()
    found = show(first, job)
    assert (found["state"], found["done"], found["failed"]) == ("done", 3, 1)


def test_what_is_over_goes(replicas: tuple[Replica, Replica], known: Any, scan: bytes) -> None:
    (first, jobs), _ = replicas
    oldest, newest = (send(first, ("a.jpg", scan)) for _ in range(2))
    assert jobs.run_next()
    assert jobs.run_next()
    lost = send(first, ("a.jpg", scan))
    known.expire(f"tumorapp:job:{lost['id']}", 0)
    assert not jobs.run_next()
    jobs.store.sweep(1)
    assert jobs.store.is_idle()
    assert first.get(oldest["links"]["self"]).status_code == 404
    assert show(first, newest)["state"] == "done"
    assert known.zrange("tumorapp:ended", 0, -1) == [newest["id"]]


def test_given_up_and_of_one_version_as_elsewhere(
    replicas: tuple[Replica, Replica], known: Any, scan: bytes
) -> None:
    (first, jobs), _ = replicas
    job = send(first, ("deadly.jpg", scan), ("a.jpg", scan))
    with jobs.store.hold(job["id"]):
        jobs.store.start(job["id"], "0", again=False)
        jobs.store.save(job["id"], {1: [{"filename": "a.jpg", "error": {}}]})
        for _ in range(runner.MOST_STARTS):
            jobs.store.start(job["id"], "0", again=False)
    assert jobs.run_next()
    deadly, good = first.get(job["links"]["results"]).get_json()["predictions"]
    assert deadly["error"]["code"] == "given-up"
    assert good["label"]
    found = show(first, job)
    assert (found["version"], found["done"], found["failed"]) == ("1", 2, 1)


def test_images_that_are_gone(replicas: tuple[Replica, Replica], known: Any, scan: bytes) -> None:
    (first, jobs), _ = replicas
    job = send(first, ("a.jpg", scan))
    known.delete(f"tumorapp:images:{job['id']}")
    assert jobs.run_next()
    assert show(first, job)["error"]["code"] == "job-images-missing"


def refuse(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> list[str]:
    """Check that jobs are refused clearly; returns what the log says of it."""
    caplog.clear()
    sent = {"data": pack(("a", b"x")), "content_type": "application/zip"}
    for answer in (client.post("/api/jobs", **sent), client.post("/api/jobs", **sent)):
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
        assert answer.get_json()["code"] == "jobs-unavailable"
    return [record.getMessage() for record in caplog.records]


def test_a_full_redis(
    replicas: tuple[Replica, Replica], known: Any, scan: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    (first, jobs), _ = replicas
    job = send(first, ("a.jpg", scan))
    known.config_set("maxmemory", 1)
    try:
        [line] = refuse(first, caplog)
        with pytest.raises(OSError, match="maxmemory"):
            jobs.run_next()
    finally:
        known.config_set("maxmemory", 0)
    assert "maxmemory" in line
    assert jobs.run_next()
    assert show(first, job)["state"] == "done"


def test_redis_goes_away_while_a_job_runs_and_comes_back(
    make: Callable[..., Replica],
    redis: Any,
    scan: bytes,
    meanwhile: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(runner, "_SECONDS_AFTER_A_FAULT", 0.01)
    monkeypatch.setattr(redis_store, "SECONDS_OF_LOCK", 0.5)
    client, jobs = make()
    gone = threading.Event()
    meanwhile(lambda: (redis.kill(), gone.set()))
    job = send(client, *((f"{number}.jpg", scan) for number in range(5)))
    assert gone.wait(10)
    assert client.get(job["links"]["self"]).status_code == 503
    assert client.post("/api/predict", data=scan, content_type="image/jpeg").status_code == 200
    time.sleep(0.2)
    assert 1 <= len(caplog.messages) <= 2  # a connection that broke, and one that is refused
    assert refuse(client, caplog) == []
    redis.start()
    deadline = time.monotonic() + 30
    while (found := show(client, job))["state"] != "done":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert (found["done"], found["failed"]) == (5, 0)
    found = client.get(job["links"]["results"]).get_json()["predictions"]
    assert [one["filename"] for one in found] == [f"{number}.jpg" for number in range(5)]
    jobs.close()
