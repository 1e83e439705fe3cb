"""A search on phantoms: trials are kept, resumed, stopped early, and fail alone."""

import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import Trial, TrialState, create_trial

import training.tune.search
from training.data.split import Split
from training.models import architecture, architectures
from training.processes import Workers
from training.run import TrainingRequest
from training.tune.report import write_best, write_report
from training.tune.search import REASON, find_folder, judge, open_study, run_trials
from training.tune.space import choose_space, take_own
from training.tune.trial import Search, try_parameters

ANN = "ann-32-nodes-0-dense"


def ask(model: str, base: Path, *data: Path, **changes: Any) -> TrainingRequest:
    network = architecture(model)
    recipe = replace(network.recipe, epochs=3, variants=0)
    request = TrainingRequest(model, data, base, base / "models", "grouped", recipe, 32)
    return replace(request, **changes)


class TestSpace:
    def test_every_architecture_can_begin_with_its_own_settings(self, tmp_path: Path) -> None:
        for name, network in architectures().items():
            request = ask(name, tmp_path, recipe=network.recipe, size=network.size)
            space = choose_space(request)
            own = take_own(request, space)
            assert own.keys() == space.keys()
            for setting, one in space.items():
                assert one._contains(one.to_internal_repr(own[setting])), (name, setting)
            assert own["learning_rate"] == network.recipe.learning_rate
            assert ("mixup" in space) is not network.lesion
            assert not network.lesion or not any(size % 32 for size in space["size"].choices)

    def test_what_is_given_and_what_has_no_effect_is_not_searched(self, tmp_path: Path) -> None:
        request = ask("mobilenet-v2", tmp_path, method="frozen")
        space = choose_space(request, ["batch", "epochs", "size"])
        assert list(space) == ["learning_rate", "weight_decay", "label_smoothing", "mixup"]
        with pytest.raises(ValueError, match=r"Nothing is left to search: learning_rate, "):
            choose_space(request, [*space, "batch", "size"])


def test_other_scans_and_another_space_make_another_search(
    tmp_path: Path, phantom_tree: Path
) -> None:
    request = ask(ANN, tmp_path, phantom_tree)
    space = choose_space(request)
    searches = [
        Search(request, space),
        Search(request, choose_space(request, ["batch"])),
        Search(replace(request, exclude=("phantoms/Healthy/1.png",)), space),
        Search(replace(request, recipe=replace(request.recipe, epochs=9)), space),
        Search(request, space, {"Healthy": "glioma"}),
    ]
    folders = {find_folder(one) for one in searches}
    assert len(folders) == len(searches)
    assert find_folder(Search(replace(request, command="again"), space)) in folders


@pytest.mark.slow
def test_a_trial_looks_at_no_scan_of_the_test_part(
    tmp_path: Path, phantom_tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    tested: set[int] = set()
    take = Split.take

    def watch(split: Split, *rows: Any) -> Any:
        taken.extend(np.concatenate(rows).tolist())
        tested.update(split.test.tolist())
        return take(split, *rows)

    monkeypatch.setattr(Split, "take", watch)
    request = ask(ANN, tmp_path, phantom_tree)
    told: list[tuple[int, float]] = []
    found = try_parameters(
        Search(request, choose_space(request)),
        {"size": 16, "batch": 8, "learning_rate": 1e-2},
        lambda *values: told.append(values),
    )
    assert taken
    assert tested
    assert not tested & set(taken)
    assert [epoch for epoch, _ in told] == [1, 2, 3]
    assert found in [accuracy for _, accuracy in told]


@pytest.mark.slow
def test_a_search_that_is_interrupted_and_trials_that_fail(
    tmp_path: Path,
    phantom_tree: Path,
    workers: Workers[Trial, float],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    request = ask(ANN, tmp_path, phantom_tree)
    # Beyond what a search would declare, so that a trial can diverge.
    space = {"learning_rate": FloatDistribution(1e-12, 3e38, log=True)}
    search, folder = Search(request, space), tmp_path / "tuning"
    told: list[str] = []

    def run(trials: int, after_epoch: Callable[[], None] = lambda: None) -> optuna.Study:
        def act(trial: Trial, epoch: int, accuracy: float) -> None:
            judge(trial, epoch, accuracy)
            after_epoch()

        monkeypatch.setattr(training.tune.search, "judge", act)
        with open_study(search, folder) as study:
            run_trials(study, search, trials, folder, told.append, workers)
        return study

    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(1, interrupt)
    assert not multiprocessing.active_children()
    run(1)
    assert told[:2] == ["Trials: 1, already finished: 0."] * 2
    assert "Epoch 1/3" not in (folder / "trial-0.log").read_text()  # it went on where it was
    assert told[2].startswith("Trial 0 (learning_rate 0.001): ")
    assert told[2].endswith(", the best so far")

    study = run(2, kill_children)
    assert "most likely because memory ran out" in study.trials[1].user_attrs[REASON]
    study.enqueue_trial({"learning_rate": 3e38})
    run(3)
    assert "failed: Training has diverged: the validation loss of epoch 1" in told[-1]

    for _ in range(5):  # nothing that learns so little can follow these
        perfect = dict.fromkeys((1, 2, 3), 1.0)
        parameters: dict[str, Any] = {"params": {"learning_rate": 1.0}, "distributions": space}
        study.add_trial(create_trial(value=1.0, intermediate_values=perfect, **parameters))
    study.enqueue_trial({"learning_rate": 1e-12})
    run(9)
    assert told[-1].endswith(": stopped after epoch 1: the others were better by then")
    states = [one.state for one in study.trials]
    assert states[1:3] == [TrialState.FAIL] * 2
    assert states[-1] is TrialState.PRUNED

    write_report(study, folder / "report.html", "Search <1>")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "6 finished, 1 stopped early, 2 failed" in page
    assert page.count('class="plotly-graph-div"') == 4
    assert "<script src" not in page  # nothing comes from a network
    assert "Trial 2 failed: Training has diverged" in page
    best = write_best(study, folder / "best.yaml", {"model": ANN})
    assert best
    text = (folder / "best.yaml").read_text(encoding="utf-8")
    assert text.endswith(f".\nmodel: {ANN}\nlearning-rate: {best.params['learning_rate']}\n")


def kill_children() -> None:
    for process in multiprocessing.active_children():
        process.kill()


def test_trials_that_cannot_be_read(tmp_path: Path) -> None:
    request = ask(ANN, tmp_path)
    (tmp_path / "trials.db").write_text("no database")
    with (
        pytest.raises(OSError, match=r"trials\.db cannot be used: .*not a database$"),
        open_study(Search(request, choose_space(request)), tmp_path),
    ):
        pass


def test_a_search_without_a_finished_trial(tmp_path: Path) -> None:
    study = optuna.create_study()
    study.add_trial(create_trial(state=TrialState.FAIL, user_attrs={REASON: "No <memory>."}))
    write_report(study, tmp_path / "report.html", "Search")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Trial 0 failed: No &lt;memory&gt;." in page
    assert write_best(study, tmp_path / "best.yaml", {}) is None
    assert not (tmp_path / "best.yaml").exists()
