"""Random variations of scans, made on the training device and never on disk."""

import keras
from keras import layers


def build_augmentation(strength: float, seed: int) -> list[keras.Layer]:
    """Rotation, flip, zoom, shift and exposure, as document 000 augments its scans.

    Args:
        strength: 0 changes nothing; 1 turns by up to 18°, zooms and shifts by up to 12 and 6 %
            and changes brightness and contrast by up to 15 and 30 %.
        seed: of the random draws.

    Returns:
        Layers of scans (batch, size, size, 1), 0–255, to the same shape and range. They act only
        while training; scans are mirrored left-right, never upside down.
    """
    if strength == 0:
        return []
    black = {"fill_mode": "constant", "fill_value": 0.0}
    return [
        layers.RandomFlip("horizontal", seed=seed),
        layers.RandomRotation(0.05 * strength, seed=seed + 1, **black),
        layers.RandomZoom(0.12 * strength, 0.12 * strength, seed=seed + 2, **black),
        layers.RandomTranslation(0.06 * strength, 0.06 * strength, seed=seed + 3, **black),
        layers.RandomBrightness(0.15 * strength, value_range=(0, 255), seed=seed + 4),
        layers.RandomContrast(0.3 * strength, value_range=(0, 255), seed=seed + 5),
    ]
