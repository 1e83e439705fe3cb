"""The architectures by name. A family joins by adding one file to this package."""

from training.models.registry import Architecture, Recipe, architecture, architectures

__all__ = ["Architecture", "Recipe", "architecture", "architectures"]
