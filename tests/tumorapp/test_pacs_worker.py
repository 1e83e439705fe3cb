"""When a PACS is asked again, and what has failed is tried again."""

import time

import pytest
from flask import Flask

from brainscan import Problem
from tumorapp.pacs.worker import State, Study, Worker


def test_what_fails_waits_twice_as_long_each_time(
    memory: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, now = memory, 1000.0
    monkeypatch.setattr(time, "time", lambda: now)
    waits = []
    for _ in range(14):
        state.fail("study", "model/1", "store-refused")
        [failure] = state.list_failures()
        waits.append(failure.due - now)
    assert waits[:4] == [60, 120, 240, 480]
    assert waits[-1] == 24 * 3600
    assert not state.is_due("study", "model/1")
    assert state.is_due("study", "model/2")
    now += 25 * 3600
    assert state.is_due("study", "model/1")


def test_a_pacs_that_does_not_answer_is_asked_less_often(
    pacs_app: Flask, memory: State, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Nowhere:
        def find(self, _: str) -> list[Study]:
            raise Problem("pacs-no-answer", reason="ConnectionError")

    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    worker = Worker(pacs_app.extensions["catalog"].get, memory, None, 10**7)
    with pytest.raises(KeyboardInterrupt):
        worker.run(Nowhere(), every=10)
    assert pauses == [20, 40, 80, 160, 300, 300]
