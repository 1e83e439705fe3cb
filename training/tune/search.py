"""A search from start to end: trial after trial, each kept as it goes, in the search's folder."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError
from tqdm import tqdm

from brainscan.files import lock
from training.data.folders import read_trees
from training.data.sources import own_classes
from training.processes import ApartError, Call, Workers, work_here
from training.tune.space import take_own
from training.tune.trial import Search, try_parameters

REASON = "reason"  # the attribute of a failed trial that says why
_NAME = "search"
_FEWEST = 5  # finished trials that the others are compared with


def find_folder(search: Search) -> Path:
    """Give a search's folder, named by all that decides its trials' results."""
    request = search.request
    with own_classes(search.names):
        trees = read_trees(request.data, exclude=request.exclude, manifest=request.manifest)
    scans = [(scan.name, scan.label) for tree in trees for scan in tree.scans]
    decisive = [request.decisive, {name: repr(one) for name, one in search.space.items()}, scans]
    digest = hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:12]
    return request.instance / "tuning" / f"{request.model}-{digest}"


@contextmanager
def open_study(search: Search, folder: Path) -> Iterator[optuna.Study]:
    """Hold a search for this process alone; a new one begins with the architecture's own settings.

    Args:
        search: what is searched.
        folder: of `find_folder`; keeps the trials.

    Raises:
        LockedError: another process holds it.
        OSError: the trials cannot be read or written.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    folder.mkdir(parents=True, exist_ok=True)
    path, request = folder / "trials.db", search.request
    # A quarter of the epochs pass before a trial can be worse than the others.
    pruner = optuna.pruners.MedianPruner(_FEWEST, n_warmup_steps=request.recipe.epochs // 4)
    try:
        with lock(folder / "lock", wait=False):
            study = optuna.create_study(
                storage=f"sqlite:///{path}",
                study_name=_NAME,
                load_if_exists=True,
                direction="maximize",
                pruner=pruner,
            )
            trials = study.get_trials(deepcopy=False)
            # A search that goes on must not draw again what it drew first.
            study.sampler = optuna.samplers.TPESampler(seed=request.seed + len(trials))
            if not trials:
                study.enqueue_trial(take_own(request, search.space))
            yield study
    except (StorageInternalError, SQLAlchemyError) as error:
        reason, _, _ = str(error.__cause__ or error).partition("\n")
        raise OSError(f"{path} cannot be used: {reason}") from error


def next_trials(study: optuna.Study, search: Search, trials: int) -> Iterator[Trial]:
    """Give the trials that were begun and not finished, then new ones, up to so many in all."""
    for begun in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        yield Trial(study, begun._trial_id)
    while len(list_begun(study)) < trials:
        yield study.ask(dict(search.space))


def list_begun(study: optuna.Study, *, finished: bool = False) -> list[FrozenTrial]:
    """Give all trials that have begun, or those that are finished."""
    waiting = {TrialState.WAITING} | ({TrialState.RUNNING} if finished else set())
    return [one for one in study.get_trials(deepcopy=False) if one.state not in waiting]


def judge(trial: Trial, epoch: int, accuracy: float) -> None:
    """Keep the validation accuracy after an epoch.

    Raises:
        TrialPruned: the median of the other trials was better by then.
    """
    trial.report(accuracy, epoch)
    if trial.should_prune():
        raise optuna.TrialPruned(f"stopped after epoch {epoch}: the others were better by then")


def conclude(study: optuna.Study, trial: Trial, run: Callable[[], float]) -> str:
    """Run a trial, keep what comes of it, even a failure, and give a line that says so."""
    try:
        found = f"validation accuracy {study.tell(trial, run()).value:.4f}"
        if study.best_trial.number == trial.number:
            found += ", the best so far"
    except optuna.TrialPruned as pruned:
        study.tell(trial, state=TrialState.PRUNED)
        found = str(pruned)
    except ApartError as error:
        trial.set_user_attr(REASON, str(error))
        study.tell(trial, state=TrialState.FAIL)
        found = f"failed: {error}"
    return f"Trial {trial.number} ({describe(trial.params)}): {found}"


def describe(parameters: Mapping[str, Any]) -> str:
    """Write a trial's settings in a line."""
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in parameters.items()
    )


def run_trials(
    study: optuna.Study,
    search: Search,
    trials: int,
    folder: Path,
    tell: Callable[[str], None],
    workers: Workers[Trial, float] = work_here,
) -> None:
    """Run trials until there are so many.

    Args:
        study: of `open_study`.
        search: what is searched.
        trials: how many there are to be, with those that the study holds.
        folder: takes what each trial prints.
        tell: takes a line for each trial.
        workers: run the trials, each in a process of its own.

    Raises:
        KeyboardInterrupt: the caller stopped it; the next call goes on with the trials it was at.
    """
    finished = len(list_begun(study, finished=True))
    tell(f"Trials: {trials}, already finished: {finished}.")
    with tqdm(desc="Trials", initial=finished, total=trials, unit="trial") as bar:
        calls = (
            Call(
                trial,
                try_parameters,
                (search, trial.params),
                folder / f"trial-{trial.number}.log",
                partial(_listen, trial, bar),
            )
            for trial in next_trials(study, search, trials)
        )
        for call, outcome in workers(calls):
            tell(conclude(study, call.subject, outcome))
            bar.update()


def _listen(trial: Trial, bar: tqdm, epoch: int, accuracy: float) -> None:
    bar.set_postfix(trial=trial.number, epoch=epoch, accuracy=f"{accuracy:.4f}")
    judge(trial, epoch, accuracy)
