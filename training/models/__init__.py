"""The architectures by name. A family joins by adding one file to this package."""

from training.models.registry import (
    Architecture,
    Recipe,
    WeightsError,
    architecture,
    architectures,
    list_architectures,
)

__all__ = [
    "Architecture",
    "Recipe",
    "WeightsError",
    "architecture",
    "architectures",
    "list_architectures",
]
