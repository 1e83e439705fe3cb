import keras
import numpy as np
import pytest
from numpy.typing import NDArray

from training.augment import build_augmentation

SIZE = 48


@pytest.fixture
def arrow() -> NDArray[np.uint8]:
    """A bright bar at the top left on grey: it shows how a picture was turned."""
    picture = np.full((SIZE, SIZE, 1), 60, np.uint8)
    picture[4:14, 4:22] = 220
    return picture


def augment(
    picture: NDArray[np.uint8], copies: int, strength: float = 1.0, seed: int = 0
) -> NDArray[np.float32]:
    layers = build_augmentation(strength, seed)
    model = keras.Sequential([keras.layers.Input((SIZE, SIZE, 1)), *layers])
    return np.asarray(model(np.stack([picture] * copies), training=True))


def test_validating_and_predicting_change_nothing(arrow: NDArray[np.uint8]) -> None:
    model = keras.Sequential([keras.layers.Input((SIZE, SIZE, 1)), *build_augmentation(1.0, 0)])
    assert np.array_equal(model.predict(arrow[np.newaxis], verbose=0)[0], arrow)


def test_strength_0_is_no_augmentation() -> None:
    assert build_augmentation(0, seed=0) == []


def test_every_copy_differs_and_stays_in_range(arrow: NDArray[np.uint8]) -> None:
    copies = augment(arrow, 24)
    assert copies.shape == (24, SIZE, SIZE, 1)
    assert copies.dtype == np.float32
    assert copies.min() >= 0
    assert copies.max() <= 255
    flat = copies.reshape(24, -1)
    distances = np.abs(flat[:, None] - flat).mean(axis=-1)
    assert (distances[~np.eye(24, dtype=bool)] > 0.5).all()


def test_scans_are_mirrored_but_never_upside_down(arrow: NDArray[np.uint8]) -> None:
    copies = augment(arrow, 64)[..., 0]
    half = SIZE // 2
    brightness = {
        "left": copies[:, :half, :half].mean(axis=(1, 2)),
        "right": copies[:, :half, half:].mean(axis=(1, 2)),
        "below": copies[:, half:].mean(axis=(1, 2)),
    }
    mirrored = brightness["right"] > brightness["left"]
    assert 0.25 < mirrored.mean() < 0.75
    top = np.maximum(brightness["left"], brightness["right"])
    assert (top > brightness["below"]).all()


def test_exposure_varies(arrow: NDArray[np.uint8]) -> None:
    centre = augment(arrow, 64)[:, 20:28, 20:28].mean(axis=(1, 2, 3))
    assert centre.std() > 5


def test_strength_is_a_scale(arrow: NDArray[np.uint8]) -> None:
    def change(strength: float) -> float:
        copies = augment(arrow, 32, strength)
        mirrored = arrow[:, ::-1]
        nearest = [min(np.abs(one - like).mean() for like in (arrow, mirrored)) for one in copies]
        return float(np.mean(nearest))

    assert change(0.1) < change(0.5) < change(1.5)


def test_the_seed_decides(arrow: NDArray[np.uint8]) -> None:
    assert np.array_equal(augment(arrow, 4, seed=1), augment(arrow, 4, seed=1))
    assert not np.array_equal(augment(arrow, 4, seed=1), augment(arrow, 4, seed=2))
