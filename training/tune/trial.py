"""One trial of a search: settings → how many scans of the validation part are answered right."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from training.data.sources import own_classes
from training.data.split import split_scans
from training.pipeline import fit_split, load
from training.run import TrainingRequest, find_run
from training.tune.space import Space, apply


@dataclass(frozen=True)
class Search:
    """What `flask tune` was asked for.

    Attributes:
        request: what all trials have in common.
        space: what they differ in.
        names: what names of folders stand for, as `own_classes` takes it.
    """

    request: TrainingRequest
    space: Space
    names: Mapping[str, str] = field(default_factory=dict)


def try_parameters(
    search: Search, parameters: Mapping[str, Any], report: Callable[[int, float], None]
) -> float:
    """Train with a trial's settings, or go on with its run; nothing looks at the test part.

    Args:
        search: what is searched; it can be pickled.
        parameters: a value for each name of the space.
        report: gets the number of each epoch that was kept, and its validation accuracy.

    Returns:
        The validation accuracy of the epoch that training keeps.

    Raises:
        DivergenceError, DeviceMemoryError: as `training.fit.fit`.
        RunBusyError: another process trains with the same settings.
        ValueError: the network cannot be built with them.
    """
    request = apply(search.request, parameters)
    with own_classes(search.names):
        split = split_scans(load(request), request.protocol, request.seed)
    run = find_run(request, split)
    with run.claim():
        run.write_configuration(split)
        fitted = fit_split(split, run, report)
    return fitted.history[fitted.best_epoch - 1]["val_accuracy"]
