"""What is published, activated or removed is taken up while the service runs."""

import gc
import logging
import os
import shutil
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from brainscan.bundle import pin_version, remove_version
from tests.tumorapp.servers import write_config
from tumorapp.catalog import Catalog
from tumorapp.reload import watch

Publish = Callable[..., Path]


@pytest.fixture
def catalog(models_dir: Path) -> Catalog:
    catalog = Catalog(models_dir)
    catalog.load()
    return catalog


def version(catalog: Catalog, name: str = "binary-cnn") -> int:
    return catalog.get(name).card.version


def spoil(bundle: Path) -> None:
    (bundle / "graph.bin").write_bytes(b"spoilt")


def test_a_new_version_is_taken_up_and_the_rest_is_left_alone(
    catalog: Catalog, models_dir: Path, publish_model: Publish
) -> None:
    other = catalog.get("mobilenet-v2")
    publish_model(models_dir, "binary-cnn")
    assert version(catalog) == 1
    catalog.refresh()
    assert version(catalog) == 2
    assert catalog.get("mobilenet-v2") is other


def test_nothing_is_opened_where_nothing_changed(catalog: Catalog) -> None:
    before = catalog.models
    catalog.refresh()
    assert catalog.models is before


def test_an_older_version_is_activated_and_the_newest_again(
    catalog: Catalog, models_dir: Path, publish_model: Publish
) -> None:
    publish_model(models_dir, "binary-cnn")
    for chosen, expected in ((1, 1), (2, 2), (1, 1), (None, 2)):
        pin_version(models_dir, "binary-cnn", chosen)
        catalog.refresh()
        assert version(catalog) == expected
    pin_version(models_dir, "binary-cnn", 1)
    publish_model(models_dir, "binary-cnn")
    catalog.refresh()
    assert version(catalog) == 1


def test_a_version_that_is_newer_than_the_chosen_one_never_takes_its_place(
    models_dir: Path, publish_model: Publish
) -> None:
    for _ in range(2):
        publish_model(models_dir, "binary-cnn")
    pin_version(models_dir, "binary-cnn", 2)
    spoil(models_dir / "binary-cnn" / "2")
    assert version(Catalog(models_dir)) == 1
    shutil.rmtree(models_dir / "binary-cnn" / "1")
    assert "binary-cnn" not in Catalog(models_dir).models


def test_a_choice_that_is_not_understood_is_told_and_the_newest_serves(
    catalog: Catalog, models_dir: Path
) -> None:
    (models_dir / "binary-cnn" / "active").write_text("first\n")
    catalog.refresh()
    assert version(catalog) == 1
    [refusal] = catalog.refused
    assert (refusal.name, refusal.version) == ("binary-cnn", "active")
    assert "'first'" in refusal.reason


def test_what_was_removed_is_served_no_longer(
    catalog: Catalog, models_dir: Path, publish_model: Publish
) -> None:
    publish_model(models_dir, "binary-cnn")
    catalog.refresh()
    remove_version(models_dir, "binary-cnn", 2)
    catalog.refresh()
    assert version(catalog) == 1
    remove_version(models_dir, "binary-cnn", 1)
    catalog.refresh()
    assert list(catalog.models) == ["mobilenet-v2"]


def test_a_number_that_is_given_again_is_another_version(
    catalog: Catalog, models_dir: Path, publish_model: Publish
) -> None:
    before = catalog.get("binary-cnn")
    remove_version(models_dir, "binary-cnn", 1)
    publish_model(models_dir, "binary-cnn", limits="Others.")
    catalog.refresh()
    assert catalog.get("binary-cnn") is not before
    assert catalog.get("binary-cnn").card.limits == "Others."


def test_a_refused_bundle_leaves_the_old_one_and_is_told_once(
    catalog: Catalog,
    models_dir: Path,
    publish_model: Publish,
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = catalog.get("binary-cnn")
    spoil(publish_model(models_dir, "binary-cnn"))
    catalog.refresh()
    publish_model(models_dir, "another")
    catalog.refresh()
    assert catalog.get("binary-cnn") is before
    assert caplog.text.count("Refused binary-cnn/2") == 1
    assert [(one.name, one.version) for one in catalog.refused] == [("binary-cnn", "2")]


def test_a_served_bundle_that_is_spoilt_in_its_place_stays(
    catalog: Catalog, models_dir: Path
) -> None:
    before = catalog.get("binary-cnn")
    spoil(models_dir / "binary-cnn" / "1")
    catalog.refresh()
    assert catalog.get("binary-cnn") is before
    assert len(catalog.refused) == 1


def test_a_bundle_that_is_being_copied_is_tried_again(
    catalog: Catalog, models_dir: Path, publish_model: Publish, tmp_path: Path
) -> None:
    shutil.copytree(models_dir / "binary-cnn", tmp_path / "elsewhere" / "binary-cnn")
    bundle = publish_model(tmp_path / "elsewhere", "binary-cnn")
    target = models_dir / "binary-cnn" / "2"
    target.mkdir()
    for name in ("SHA256SUMS", "card.json", "graph.xml", "graph.bin"):
        catalog.refresh()
        assert version(catalog) == 1
        shutil.copy(bundle / name, target)
    catalog.refresh()
    assert version(catalog) == 2
    assert not catalog.refused


def test_a_pipe_among_the_bundles_holds_nobody_up(
    catalog: Catalog, models_dir: Path, publish_model: Publish
) -> None:
    card = publish_model(models_dir, "binary-cnn") / "card.json"
    card.unlink()
    os.mkfifo(card)
    publish_model(models_dir, "another")
    catalog.refresh()
    assert sorted(catalog.models) == ["another", "binary-cnn", "mobilenet-v2"]
    assert [(one.name, one.version) for one in catalog.refused] == [("binary-cnn", "2")]


def test_a_folder_that_is_gone_for_a_moment_changes_nothing(
    catalog: Catalog, models_dir: Path
) -> None:
    models_dir.rename(models_dir.with_name("moved"))
    catalog.refresh()
    assert list(catalog.models) == ["binary-cnn", "mobilenet-v2"]


def test_the_old_engine_is_let_go(
    catalog: Catalog, models_dir: Path, publish_model: Publish
) -> None:
    engine = weakref.ref(catalog.get("binary-cnn").engine)
    publish_model(models_dir, "binary-cnn")
    catalog.refresh()
    gc.collect()
    assert engine() is None


def reload_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "reload"]


def test_watching(models_dir: Path, publish_model: Publish) -> None:
    catalog = Catalog(models_dir)
    catalog.load()
    before = set(reload_threads())
    watch(catalog, 0.05)
    [thread] = set(reload_threads()) - before
    publish_model(models_dir, "binary-cnn")
    deadline = time.monotonic() + 10
    while version(catalog) == 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert version(catalog) == 2
    del catalog
    gc.collect()
    thread.join(timeout=10)
    assert not thread.is_alive()


def test_a_look_that_fails_is_told_and_not_the_last(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks = []

    def fail(self: Catalog) -> None:
        looks.append(self)
        raise RuntimeError("no luck")

    monkeypatch.setattr(Catalog, "refresh", fail)
    with caplog.at_level(logging.ERROR):
        watch(catalog, 0.01)
        deadline = time.monotonic() + 10
        while len(looks) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert len(looks) >= 3
    assert "no luck" in caplog.text


@pytest.fixture
def service(models_dir: Path, tmp_path: Path, serve: Callable[..., Any]) -> Iterator[Any]:
    config = write_config(tmp_path, "tumorapp.reload", _SECONDS=0.3)
    with serve(models_dir, tmp_path, config, WEB_CONCURRENCY="2", THREADS="4") as running:
        yield running
    assert running.process.returncode == 0, running.log
    assert "Traceback" not in running.log, running.log
    assert running.log.count("Booting worker") == 2, running.log  # none died


@pytest.mark.slow
def test_no_request_fails_while_versions_come_and_go(
    service: Any, models_dir: Path, publish_model: Publish, scan: bytes
) -> None:
    ended, answers, seen = threading.Event(), Counter[int](), dict[str, float]()

    def hammer(_: int) -> None:
        while not ended.is_set():
            status, answer = service.predict(scan, "model=binary-cnn")
            time.sleep(0.02)
            answers[status] += 1
            seen[answer.get("version", "none")] = time.monotonic()

    def wait_for(wanted: str) -> None:
        """Wait until both workers have answered with that version alone for a while."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            time.sleep(0.1)
            now, last = time.monotonic(), dict(seen)
            others = [at for each, at in last.items() if each != wanted]
            if wanted in last and now - last[wanted] < 0.5 and all(now - at > 0.7 for at in others):
                return
        pytest.fail(f"{wanted} is not served alone: {seen}, {service.log}")

    with ThreadPoolExecutor(4) as clients:
        running = [clients.submit(hammer, number) for number in range(4)]
        try:
            wait_for("1")
            publish_model(models_dir, "binary-cnn")
            wait_for("2")
            pin_version(models_dir, "binary-cnn", 1)
            wait_for("1")
            spoil(publish_model(models_dir, "binary-cnn"))
            pin_version(models_dir, "binary-cnn", None)
            wait_for("2")
            remove_version(models_dir, "binary-cnn", 2)
            wait_for("1")
        finally:
            ended.set()
        for one in running:
            one.result()
    assert set(answers) == {200}, answers
    assert answers[200] > 100
    [refused] = service.ask("/api/models").json()["refused"]
    assert (refused["name"], refused["version"]) == ("binary-cnn", "3")
