"""What a search ends with: the best settings as a file, and an HTML page that needs no network."""

import warnings
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import (
    plot_intermediate_values,
    plot_optimization_history,
    plot_parallel_coordinate,
    plot_param_importances,
)

from brainscan.files import write_text
from training.tune.search import REASON, describe

_PLOTS = (
    ("The accuracy on the validation part, trial after trial.", plot_optimization_history),
    ("After each epoch, of the trials that were stopped too.", plot_intermediate_values),
    ("How much of the difference each setting explains.", plot_param_importances),
    ("The settings of each trial, and what came of them.", plot_parallel_coordinate),
)


def write_report(study: optuna.Study, path: Path, title: str) -> None:
    """Write the best settings, the plots, and why trials failed."""
    done = {state: study.get_trials(deepcopy=False, states=[state]) for state in TrialState}
    complete, failed = done[TrialState.COMPLETE], done[TrialState.FAIL]
    pruned = len(done[TrialState.PRUNED])
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>Trials: {len(complete)} finished, {pruned} stopped early, {len(failed)} failed.</p>",
        "<p>The validation part decides; no trial has looked at the test part.</p>",
    ]
    if complete:
        best = study.best_trial
        parts.append(
            f"<p>The best is trial {best.number}: {best.value:.4f} of the validation scans right. "
            f"{escape(describe(best.params))}.</p>"
        )
    for number, (explanation, plot) in enumerate(_PLOTS if len(complete) > 1 else ()):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that few trials tell little of importances
            drawn = plot(study).to_html(full_html=False, include_plotlyjs=number == 0)
        parts.append(f"<figure>{drawn}<figcaption>{explanation}</figcaption></figure>")
    parts += [
        f"<p>Trial {one.number} failed: {escape(str(one.user_attrs.get(REASON)))}</p>"
        for one in failed
    ]
    page = "\n".join(parts)
    write_text(path, f'<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n{page}\n')


def write_best(study: optuna.Study, path: Path, given: Mapping[str, Any]) -> FrozenTrial | None:
    """Write the best trial's settings, and the options that all have in common, as YAML.

    Returns:
        The best trial; None where none was finished, and nothing is written.
    """
    if not study.get_trials(deepcopy=False, states=[TrialState.COMPLETE]):
        return None
    best = study.best_trial
    settings = {name.replace("_", "-"): value for name, value in best.params.items()}
    text = yaml.safe_dump({**given, **settings}, sort_keys=False, allow_unicode=True)
    head = f"# Trial {best.number}: {best.value:.4f} of the validation scans right.\n"
    write_text(path, head + text)
    return best
