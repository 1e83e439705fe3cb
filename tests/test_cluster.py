"""A Ray cluster of two machines, one of which is lost half-way: nothing is lost or doubled."""

import operator
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pyarrow as pa
import pytest
from flask import Flask
from optuna.distributions import FloatDistribution
from optuna.trial import Trial, TrialState
from pyarrow import parquet

import training.tune.search
from brainscan.bundle.study import BUDGETS, read_study
from brainscan.storage import open_storage
from tests.conftest import set_keys
from training.models import architecture
from training.processes import ApartError, Call
from training.run import TrainingRequest
from training.study.plan import Plan
from training.study.rows import choose_rows
from training.study.run import run_study
from training.tune.search import open_study, run_trials
from training.tune.trial import Search
from tumorapp.bulk.predict import Row
from tumorapp.bulk.results import Results

pytest.importorskip("ray", reason="Ray is not installed: pip install -r requirements-ray.txt")

from ray.cluster_utils import Cluster

from brainscan.cluster import connect
from training.cluster import work_on_cluster

ANN = "ann-32-nodes-0-dense"
SCANS = 600
MACHINE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}


@pytest.fixture(scope="module")
def head(s3_server: str) -> Iterator[Cluster]:
    """A machine with a core, and with what a bucket's keys are in the environment of tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")
        set_keys(patch, s3_server)
        cluster = Cluster(True, head_node_args={**MACHINE, "include_dashboard": False})
        yield cluster
        cluster.shutdown()


@pytest.fixture
def cluster(head: Cluster) -> Iterator[Cluster]:
    """Two machines with a core each."""
    machine = head.add_node(**MACHINE)
    yield head
    if machine in head.worker_nodes:
        head.remove_node(machine)


@contextmanager
def losing_a_machine(cluster: Cluster, ready: Callable[[], bool]) -> Iterator[None]:
    """Take one machine away as soon as both are at work, and check that this happened."""
    lost = threading.Event()

    def wait() -> None:
        deadline = time.monotonic() + 100
        while time.monotonic() < deadline and not ready():
            time.sleep(0.01)
        (machine,) = cluster.worker_nodes
        cluster.remove_node(machine, allow_graceful=False)
        lost.set()

    threading.Thread(target=wait, daemon=True).start()
    yield
    assert lost.is_set()


@pytest.mark.slow
def test_a_study_goes_on_when_a_machine_is_lost(
    cluster: Cluster, tmp_path: Path, phantom_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = choose_rows("000", ["ann-32-nodes-0-dense", "ann-64-nodes-0-dense"])
    monkeypatch.chdir(phantom_tree.parent)
    data = Path(phantom_tree.name)
    plans = [
        Plan(replace(row, epochs=12), BUDGETS[0], tmp_path / "i", tmp_path, data=(data,))
        for row in rows
    ]

    def both_train() -> bool:
        return len(list(tmp_path.glob("i/runs/ann-*/state.json"))) == 2

    told: list[str] = []
    with losing_a_machine(cluster, both_train), connect(cluster.address):
        assert run_study(plans, tmp_path, told.append, work_on_cluster) == {}
    assert told[1:3] == [f"[1/2] {plans[0].id}", f"[2/2] {plans[1].id}"]
    assert {result.id for result in read_study(tmp_path).results} == {plan.id for plan in plans}
    begun = ["Epoch 1/12" in plan.log.read_text() for plan in plans]
    assert sorted(begun) == [False, True]  # one went on where it was


@pytest.mark.slow
def test_calls_have_a_gpu_each_where_there_are_any_and_fail_alone(
    head: Cluster, tmp_path: Path
) -> None:
    machine = head.add_node(**MACHINE | {"num_cpus": 2}, num_gpus=2)
    calls: list[Call[str, Any]] = [
        Call("first", os.getenv, ("CUDA_VISIBLE_DEVICES",), tmp_path / "first.log"),
        Call("second", os.getenv, ("CUDA_VISIBLE_DEVICES",), tmp_path / "second.log"),
        Call("fails", operator.truediv, (1, 0), tmp_path / "fails.log"),
        Call("killed", signal.raise_signal, (signal.SIGKILL,), tmp_path / "killed.log"),
    ]
    with connect(head.address):
        outcomes = {call.subject: outcome for call, outcome in work_on_cluster(iter(calls))}
    head.remove_node(machine)
    assert {outcomes["first"](), outcomes["second"]()} == {"0", "1"}
    with pytest.raises(ApartError, match="division by zero"):
        outcomes["fails"]()
    with pytest.raises(ApartError, match="memory ran out"):
        outcomes["killed"]()


@pytest.mark.slow
def test_trials_at_the_same_time(
    cluster: Cluster, tmp_path: Path, phantom_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def judge(trial: Trial, epoch: int, accuracy: float) -> None:
        trial.report(accuracy, epoch)
        if trial.number == 1:
            raise optuna.TrialPruned("stopped")

    monkeypatch.setattr(training.tune.search, "judge", judge)
    recipe = replace(architecture(ANN).recipe, epochs=2, variants=0)
    request = TrainingRequest(ANN, (phantom_tree,), tmp_path, tmp_path, "grouped", recipe, 32)
    space = {"learning_rate": FloatDistribution(1e-3, 1e-2, log=True)}
    told: list[str] = []
    with (
        connect(cluster.address),
        open_study(Search(request, space), tmp_path / "tuning") as study,
    ):
        run_trials(
            study, Search(request, space), 2, tmp_path / "tuning", told.append, work_on_cluster
        )
    complete, pruned = study.trials
    assert (complete.state, pruned.state) == (TrialState.COMPLETE, TrialState.PRUNED)
    assert [*complete.intermediate_values] == [1, 2]
    assert [*pruned.intermediate_values] == [1]


@pytest.mark.slow
def test_each_scan_of_a_bucket_has_one_row(
    bucket: str,
    cluster: Cluster,
    app: Flask,
    draw_scan: Callable[..., bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    system, path = open_storage(bucket)
    scans = {f"{path}/scans/{n:03}.jpg": draw_scan(spot=0.4 + n / 4000) for n in range(SCANS)}
    bad = f"{path}/scans/bad.jpg"
    system.pipe({**scans, bad: b"no picture"})
    arrived: list[Row] = []
    add = Results.add

    def watch(self: Results, rows: Sequence[Row]) -> None:
        arrived.extend(rows)
        add(self, rows)

    monkeypatch.setattr(Results, "add", watch)
    command = ["predict", f"{bucket}/scans", "--ray", cluster.address, "--out", f"{bucket}/rows"]
    with losing_a_machine(cluster, lambda: bool(arrived)):
        done = app.test_cli_runner().invoke(args=command)
    assert done.exit_code == 1
    assert f"1 of {SCANS + 1} files were skipped" in done.output
    late = f"{path}/scans/late.jpg"
    system.pipe(late, next(iter(scans.values())))
    done = app.test_cli_runner().invoke(args=[*command, "--resume"])
    assert done.exit_code == 0
    assert f"{SCANS + 1} of {SCANS + 2} files have rows already." in done.output

    parts = system.cat(f"{path}/rows", recursive=True).values()
    tables = [parquet.read_table(pa.BufferReader(part)) for part in parts]
    rows = pa.concat_tables(tables).to_pylist()
    assert sorted(row["file"] for row in rows) == sorted(
        f"s3://{name}" for name in (*scans, bad, late)
    )
    assert [row["file"] for row in rows if row["codes"] == "not-an-image"] == [f"s3://{bad}"]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:1", "No Ray cluster answers at 127.0.0.1:1: [Errno 111] Connection refused."),
        ("nowhere.invalid:6379", "No Ray cluster answers at nowhere.invalid:6379: "),
        ("auto", "'auto' is not the address of a Ray cluster. Give HOST:PORT, as `ray start"),
    ],
)
def test_a_cluster_that_is_not_there(
    address: str, words: str, app: Flask, scan: bytes, tmp_path: Path
) -> None:
    (tmp_path / "scan.jpg").write_bytes(scan)
    done = app.test_cli_runner().invoke(args=["predict", str(tmp_path), "--ray", address])
    assert done.exit_code == 1
    assert words in done.output
