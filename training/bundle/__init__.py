"""What a published model is on disk, and how it is written and read: numpy and JSON only."""

from training.bundle.card import CARD_FORMAT, HEALTHY_CLASSES, Card
from training.bundle.store import (
    BundleError,
    PublishError,
    installed_versions,
    publish_bundle,
    read_bundle,
)

__all__ = [
    "CARD_FORMAT",
    "HEALTHY_CLASSES",
    "BundleError",
    "Card",
    "PublishError",
    "installed_versions",
    "publish_bundle",
    "read_bundle",
]
