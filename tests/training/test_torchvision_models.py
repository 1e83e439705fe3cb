"""The networks with torchvision's weights, next to its layout and its own forward pass."""

import functools
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers
from numpy.typing import NDArray

from training.models import WeightsError, architecture
from training.models import torchvision_weights as published
from training.models.blocks import pool_to_the_end

Shapes = dict[str, tuple[int, ...]]
Arrays = dict[str, NDArray[np.float32]]

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


def convolution(name: str, norm: str, into: int, out: int, window: int) -> Shapes:
    rest = ("weight", "bias", "running_mean", "running_var")
    return {
        f"{name}.weight": (out, into, window, window),
        **{f"{norm}.{one}": (out,) for one in rest},
        f"{norm}.num_batches_tracked": (),
    }


def head(width: int) -> Shapes:
    return {"fc.weight": (1000, width), "fc.bias": (1000,)}


def resnet18_shapes() -> Shapes:
    shapes = convolution("conv1", "bn1", 3, 64, 7)
    into = 64
    for stage, out in ((1, 64), (2, 128), (3, 256), (4, 512)):
        for block in (f"layer{stage}.0", f"layer{stage}.1"):
            shapes |= convolution(f"{block}.conv1", f"{block}.bn1", into, out, 3)
            shapes |= convolution(f"{block}.conv2", f"{block}.bn2", out, out, 3)
            if into != out:
                down = f"{block}.downsample"
                shapes |= convolution(f"{down}.0", f"{down}.1", into, out, 1)
            into = out
    return shapes | head(512)


INCEPTIONS = {
    "3a": (192, 64, 96, 128, 16, 32, 32),
    "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64),
    "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64),
    "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128),
    "5a": (832, 256, 160, 320, 32, 128, 128),
    "5b": (832, 384, 192, 384, 48, 128, 128),
}


def googlenet_shapes() -> Shapes:
    def basic(name: str, into: int, out: int, window: int) -> Shapes:
        return convolution(f"{name}.conv", f"{name}.bn", into, out, window)

    shapes = basic("conv1", 3, 64, 7) | basic("conv2", 64, 64, 1) | basic("conv3", 64, 192, 3)
    for name, (into, alone, reduced_3, by_3, reduced_5, by_5, pooled) in INCEPTIONS.items():
        branch = f"inception{name}.branch"
        shapes |= basic(f"{branch}1", into, alone, 1)
        shapes |= basic(f"{branch}2.0", into, reduced_3, 1)
        shapes |= basic(f"{branch}2.1", reduced_3, by_3, 3)
        shapes |= basic(f"{branch}3.0", into, reduced_5, 1)
        shapes |= basic(f"{branch}3.1", reduced_5, by_5, 3)
        shapes |= basic(f"{branch}4.1", into, pooled, 1)
    for name, into in (("aux1", 512), ("aux2", 528)):
        shapes |= basic(f"{name}.conv", into, 128, 1)
        shapes |= {f"{name}.fc1.weight": (1024, 2048), f"{name}.fc1.bias": (1024,)}
        shapes |= {f"{name}.fc2.weight": (1000, 1024), f"{name}.fc2.bias": (1000,)}
    return shapes | head(1024)


def shufflenet_shapes() -> Shapes:
    shapes = convolution("conv1.0", "conv1.1", 3, 24, 3)
    into = 24
    for stage, units, out in ((2, 4, 116), (3, 8, 232), (4, 4, 464)):
        half = out // 2
        for unit in range(units):
            one, two = f"stage{stage}.{unit}.branch1", f"stage{stage}.{unit}.branch2"
            if unit == 0:
                shapes |= convolution(f"{one}.0", f"{one}.1", 1, into, 3)
                shapes |= convolution(f"{one}.2", f"{one}.3", into, half, 1)
            shapes |= convolution(f"{two}.0", f"{two}.1", half if unit else into, half, 1)
            shapes |= convolution(f"{two}.3", f"{two}.4", 1, half, 3)
            shapes |= convolution(f"{two}.5", f"{two}.6", half, half, 1)
        into = out
    return shapes | convolution("conv5.0", "conv5.1", 464, 1024, 1) | head(1024)


@dataclass(frozen=True)
class Network:
    """What torchvision says of a network: parameters as it publishes them, without helpers."""

    shapes: Callable[[], Shapes]
    parameters: int
    width: int
    settings: dict[str, Any]


NETWORKS = {
    "resnet18": Network(resnet18_shapes, 11_689_512, 512, {}),
    "googlenet": Network(
        googlenet_shapes,
        6_624_904,
        1024,
        {"transform_input": True, "init_weights": False},
    ),
    "shufflenet-v2": Network(shufflenet_shapes, 2_278_604, 1024, {}),
}
TORCHVISION = {"shufflenet-v2": "shufflenet_v2_x1_0"}


@functools.cache
def draw_weights(name: str) -> Arrays:
    random = np.random.default_rng(0)
    arrays: Arrays = {}
    for weight, shape in NETWORKS[name].shapes().items():
        if len(shape) > 1:
            values = random.normal(0, np.prod(shape[1:]) ** -0.5, shape)
        elif weight.endswith(("running_mean", "bias")):
            values = random.normal(0, 0.3, shape)
        else:
            values = random.uniform(0.5, 1.5, shape)
        arrays[weight] = np.asarray(values, np.float32)
    return arrays


def draw_scans(size: int) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (1, size, size, 1), np.uint8)


def draw_pictures(size: int) -> NDArray[np.float32]:
    """Colour the same scans as torchvision's own preprocessing does: (1, 3, size, size)."""
    colours = (draw_scans(size) / np.float32(255) - MEAN) / DEVIATION
    return colours.transpose(0, 3, 1, 2)


def find_features(model: keras.Model) -> NDArray[np.float32]:
    backbone = keras.Model(model.input, model.get_layer("pool").output)
    return np.asarray(backbone(draw_scans(model.input_shape[1])))


def load(model: keras.Model, path: Path) -> None:
    published.load_weights(model, path, published="not downloaded")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Give a file of weights for each network, with torchvision's names and shapes."""
    folder = tmp_path_factory.mktemp("torchvision")
    for name in NETWORKS:
        np.savez(folder / f"{name}.npz", **draw_weights(name))
    return {name: folder / f"{name}.npz" for name in NETWORKS}


@pytest.fixture(scope="module")
def model() -> keras.Model:
    return architecture("resnet18").build(32, 4)


@pytest.mark.parametrize("name", NETWORKS)
class TestEveryNetwork:
    def test_the_layout_has_the_published_number_of_parameters(self, name: str) -> None:
        counted = [
            np.prod(shape, dtype=int)
            for weight, shape in NETWORKS[name].shapes().items()
            if "running" not in weight and not weight.startswith("aux") and shape
        ]
        assert sum(counted) == NETWORKS[name].parameters

    def test_every_weight_has_its_place(self, name: str, files: dict[str, Path]) -> None:
        model = architecture(name).build(32, 4, files[name])
        arrays = draw_weights(name)
        for layer in model.layers:
            weight = f"{layer.name.replace('_', '.')}.weight"
            if isinstance(layer, layers.BatchNormalization):
                assert not layer.trainable  # they keep what they came with
                assert np.array_equal(layer.gamma, arrays[weight])
                mean = arrays[weight.replace("weight", "running_mean")]
                assert np.array_equal(layer.moving_mean, mean)
            elif isinstance(layer, layers.DepthwiseConv2D):
                kernel = np.asarray(layer.kernel)
                assert np.array_equal(kernel[1, 2, 5, 0], arrays[weight][5, 0, 1, 2])
            elif isinstance(layer, layers.Conv2D):
                assert layer.trainable
                kernel = np.asarray(layer.kernel)
                assert np.array_equal(kernel[..., 2, 5], arrays[weight][5, 2])

    @pytest.mark.parametrize("size", [224, 97])
    def test_computes_what_torchvision_computes(
        self, name: str, size: int, files: dict[str, Path]
    ) -> None:
        torch = pytest.importorskip("torch")
        torchvision = pytest.importorskip("torchvision")
        make = getattr(torchvision.models, TORCHVISION.get(name, name))
        net = make(**NETWORKS[name].settings).eval()
        layout = {weight: tuple(tensor.shape) for weight, tensor in net.state_dict().items()}
        assert layout == NETWORKS[name].shapes()
        net.load_state_dict({k: torch.from_numpy(v) for k, v in draw_weights(name).items()})
        net.fc = torch.nn.Identity()
        with torch.inference_mode():
            expected = net(torch.from_numpy(draw_pictures(size))).numpy()
        ours = find_features(architecture(name).build(size, 4, files[name]))
        assert ours.shape == (1, NETWORKS[name].width)
        assert ours.std() > 0.01
        assert ours == pytest.approx(expected, abs=1e-4)


def test_normalisation_learns_where_there_are_no_weights(model: keras.Model) -> None:
    assert all(layer.trainable for layer in model.layers)


@pytest.mark.parametrize("window", [2, 3])
@pytest.mark.parametrize("side", range(3, 12))
def test_pools_to_the_end_as_ceil_mode_does(side: int, window: int) -> None:
    maps = np.random.default_rng(0).uniform(0, 1, (1, side, side, 1)).astype(np.float32)
    starts = range(0, side - window + 2, 2)  # the last window may lack a pixel
    expected = [
        [maps[0, row : row + window, column : column + window].max() for column in starts]
        for row in starts
    ]
    symbolic = layers.Input((side, side, 1))
    pool = keras.Model(symbolic, pool_to_the_end(symbolic, window))
    assert np.array_equal(np.asarray(pool(maps))[0, ..., 0], expected)


class TestFiles:
    @pytest.fixture
    def arrays(self) -> Arrays:
        return draw_weights("resnet18")

    @pytest.fixture
    def write(self, tmp_path: Path) -> Callable[[Arrays, str], Path]:
        def write(arrays: Arrays, name: str) -> Path:
            path = tmp_path / name
            if path.suffix == ".npz":
                np.savez(path, **arrays)
            else:
                torch = pytest.importorskip("torch")
                state = {name: torch.from_numpy(array) for name, array in arrays.items()}
                torch.save(state, path, _use_new_zipfile_serialization="old" not in name)
            return path

        return write

    @pytest.mark.parametrize("name", ["new.pth", "old.pth", "new.pt"])
    def test_may_have_several_formats(
        self, name: str, model: keras.Model, arrays: Arrays, write: Callable[..., Path]
    ) -> None:
        load(model, write(arrays, name))
        (gamma, *_) = model.get_layer("layer4_1_bn2").get_weights()
        assert np.array_equal(gamma, arrays["layer4.1.bn2.weight"])

    def test_need_neither_a_head_nor_counters(
        self, model: keras.Model, arrays: Arrays, write: Callable[..., Path]
    ) -> None:
        bare = {k: v for k, v in arrays.items() if "fc" not in k and "tracked" not in k}
        load(model, write(bare, "bare.npz"))

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"layer2.0.bn1.bias": None}, r"layer2\.0\.bn1\.bias, of shape \(128,\), is missing"),
            (
                {"layer1.0.conv1.weight": np.zeros((64, 64, 1, 1))},  # as ResNet50 has it
                r"layer1\.0\.conv1\.weight has the shape \(64, 64, 1, 1\) instead of \(64, 64, 3",
            ),
            (
                {"layer1.2.conv1.weight": np.zeros((64, 64, 3, 3))},  # as ResNet34 has it
                r"layer1\.2\.conv1\.weight belongs to no layer",
            ),
        ],
    )
    def test_of_another_network_are_told_by_their_first_mistake(
        self,
        changes: dict[str, Any],
        message: str,
        model: keras.Model,
        arrays: Arrays,
        write: Callable[..., Path],
    ) -> None:
        changed = {k: v for k, v in {**arrays, **changes}.items() if v is not None}
        path = write(changed, "other.npz")
        with pytest.raises(WeightsError, match=f"does not hold weights of resnet18: {message}"):
            load(model, path)

    def test_of_one_network_do_not_fit_the_next(self, files: dict[str, Path]) -> None:
        with pytest.raises(WeightsError, match=r"of googlenet: conv1\.conv\.weight, of shape"):
            architecture("googlenet").build(32, 4, files["resnet18"])

    @pytest.mark.parametrize("name", ["a.npz", "a.pth"])
    @pytest.mark.parametrize("content", [b"", b"no weights at all", b"PK\x03\x04 cut short"])
    def test_that_are_damaged_are_refused(
        self, name: str, content: bytes, model: keras.Model, tmp_path: Path
    ) -> None:
        pytest.importorskip("torch" if name == "a.pth" else "numpy")
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match=r"cannot be read as weights: \w+"):
            load(model, tmp_path / name)

    @pytest.mark.parametrize(
        ("name", "message"),
        [("nowhere.npz", "No such file"), ("a.h5", r"Accepted: \.npz, \.pt and \.pth")],
    )
    def test_that_cannot_be_read_are_named(
        self, name: str, message: str, model: keras.Model, tmp_path: Path
    ) -> None:
        with pytest.raises(WeightsError, match=rf"{name} cannot be read as weights.*{message}"):
            load(model, tmp_path / name)

    def test_run_no_code(self, model: keras.Model, tmp_path: Path) -> None:
        pytest.importorskip("torch")

        class Trap:
            def __reduce__(self) -> tuple[Any, ...]:
                return Path.touch, (tmp_path / "ran",)

        (tmp_path / "trap.pth").write_bytes(pickle.dumps({"conv1.weight": Trap()}, 2))
        with pytest.raises(WeightsError, match="it is damaged, or holds more than tensors"):
            load(model, tmp_path / "trap.pth")
        assert not (tmp_path / "ran").exists()

    def test_of_a_whole_checkpoint_are_told_apart(self, model: keras.Model, tmp_path: Path) -> None:
        pytest.importorskip("torch").save({"epoch": 3, "model": {}}, tmp_path / "checkpoint.pth")
        with pytest.raises(WeightsError, match="something other than a state dict"):
            load(model, tmp_path / "checkpoint.pth")

    def test_say_which_package_reads_them(
        self, model: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "torch", None)
        with pytest.raises(WeightsError, match="run `pip install torch`"):
            load(model, tmp_path / "a.pth")


class TestDownload:
    @pytest.fixture(autouse=True)
    def _keep_to_this_machine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
        (tmp_path / "keras").mkdir()  # Keras takes another folder where there is none
        monkeypatch.setattr("keras.src.backend.config._KERAS_DIR", str(tmp_path / "keras"))

    def test_says_what_to_do_without_a_network(self) -> None:
        with pytest.raises(WeightsError, match=r"resnet18-f37072fd\.pth.*Connect this machine, or"):
            architecture("resnet18").build(32, 4, "imagenet")

    def test_takes_the_published_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(published, "ADDRESS", tmp_path.as_uri())
        name = f"weights-{sha256(b'weights').hexdigest()[:8]}.pth"
        (tmp_path / name).write_bytes(b"weights")
        assert published.download_weights(name).read_bytes() == b"weights"

    def test_refuses_another_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(published, "ADDRESS", tmp_path.as_uri())
        (tmp_path / "weights-01234567.pth").write_bytes(b"weights")
        with pytest.raises(WeightsError, match=f"SHA-256 {sha256(b'weights').hexdigest()}"):
            published.download_weights("weights-01234567.pth")
        assert not list((tmp_path / "keras/models").iterdir())
