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

_ACCURACY = "validation accuracy"
_HEAD = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<body style="font-family: sans-serif">"""


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
            f"<p>The best is trial {best.number}: {_ACCURACY} {best.value:.4f}, with "
            f"{escape(describe(best.params))}.</p>"
        )
    parts += _draw_plots(study) if len(complete) > 1 else []
    parts += [
        f"<p>Trial {one.number} failed: {escape(str(one.user_attrs.get(REASON)))}</p>"
        for one in failed
    ]
    write_text(path, "\n".join([_HEAD, *parts, ""]))


def _draw_plots(study: optuna.Study) -> list[str]:
    """Draw each plot as HTML; the first brings the script for all."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that few trials tell little of importances
        figures = {
            "Accuracy of each trial": plot_optimization_history(study, target_name=_ACCURACY),
            "After each epoch, of trials that were stopped early too": plot_intermediate_values(
                study
            ).update_layout(xaxis_title="epoch", yaxis_title=_ACCURACY),
            "How much each setting matters": plot_param_importances(study, target_name=_ACCURACY),
            "Settings of each trial": plot_parallel_coordinate(study, target_name=_ACCURACY),
        }
    return [
        figure.update_layout(title=title).to_html(full_html=False, include_plotlyjs=not number)
        for number, (title, figure) in enumerate(figures.items())
    ]


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
    head = f"# Trial {best.number}: {_ACCURACY} {best.value:.4f}.\n"
    write_text(path, head + text)
    return best
