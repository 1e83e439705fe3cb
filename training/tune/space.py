"""What a search varies, around what the architecture is trained with by itself."""

from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from training.models import Recipe, architecture
from training.run import TrainingRequest

Space = Mapping[str, BaseDistribution]

_GRAIN = 32  # pixels; a lesion map takes multiples of it


def choose_space(request: TrainingRequest, fixed: Collection[str] = ()) -> Space:
    """Give the settings that a search varies, by the names of `Recipe`'s fields, or "size".

    Args:
        request: what is trained.
        fixed: settings that stay as the request has them.

    Raises:
        ValueError: all of them are fixed.
    """
    network = architecture(request.model)
    rate = network.recipe.learning_rate
    sizes = [round(network.size * share / _GRAIN) * _GRAIN for share in (0.75, 1.25)]
    space: dict[str, BaseDistribution] = {
        "learning_rate": FloatDistribution(rate / 10, rate * 10, log=True),
        "weight_decay": FloatDistribution(1e-5, 0.1, log=True),
        "label_smoothing": FloatDistribution(0, 0.2),
        "batch": CategoricalDistribution((16, 32, 64)),
        "size": CategoricalDistribution((sizes[0], network.size, sizes[1])),
        "augmentation": FloatDistribution(0, 2.5),
        "mixup": FloatDistribution(0, 0.6),
    }
    if request.method == "frozen":  # a head of one layer, on features of scans as they are
        space["learning_rate"] = FloatDistribution(rate, rate * 100, log=True)
        del space["augmentation"]
    if network.lesion:  # which takes no blended outlines
        del space["mixup"]
    if space.keys() <= set(fixed):
        raise ValueError(
            f"Nothing is left to search: {', '.join(space)} are all given. Leave one of them out."
        )
    return {name: one for name, one in space.items() if name not in fixed}


def take_own(request: TrainingRequest, space: Space) -> dict[str, Any]:
    """Give the settings that the request has without a search, or the nearest in the space."""
    own: dict[str, Any] = {}
    for name, one in space.items():
        value = request.size if name == "size" else getattr(request.recipe, name)
        own[name] = (
            min(max(value, one.low), one.high) if isinstance(one, FloatDistribution) else value
        )
    return own


def apply(request: TrainingRequest, parameters: Mapping[str, Any]) -> TrainingRequest:
    """Give the request with a trial's settings."""
    names = {field.name for field in fields(Recipe)}
    recipe = {name: value for name, value in parameters.items() if name in names}
    size = parameters.get("size", request.size)
    return replace(request, recipe=replace(request.recipe, **recipe), size=size)
