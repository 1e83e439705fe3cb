"""What makes a run the same run, and what it writes down of itself."""

import importlib.metadata
import json
import platform
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import keras
import numpy as np
import pytest

from brainscan.scan import ScanSpecification
from training.data.dataset import Dataset, load_dataset
from training.data.split import Split, split_scans
from training.models import Recipe
from training.run import Run, TrainingRequest, find_run, settle


@pytest.fixture(scope="module")
def request_of_all(tmp_path_factory: pytest.TempPathFactory, phantom_tree: Path) -> TrainingRequest:
    instance = tmp_path_factory.mktemp("instance")
    return TrainingRequest(
        model="binary-cnn",
        data=(phantom_tree,),
        instance=instance,
        models=instance / "models",
        protocol="grouped",
        recipe=Recipe(),
        size=32,
        seed=3,
        command="flask train --model binary-cnn",
    )


@pytest.fixture(scope="module")
def dataset(request_of_all: TrainingRequest) -> Dataset:
    return load_dataset(
        request_of_all.data,
        ScanSpecification(32),
        request_of_all.instance / "cache",
        binary=True,
    )


@pytest.fixture(scope="module")
def split(dataset: Dataset) -> Split:
    return split_scans(dataset, "grouped", 3)


@pytest.fixture(scope="module")
def run(request_of_all: TrainingRequest, split: Split) -> Run:
    return find_run(request_of_all, split)


def test_what_a_lesion_network_ignores_is_left_out(request_of_all: TrainingRequest) -> None:
    recipe = Recipe(mixup=0.3, variants=4, every_copy=True, balanced=False)
    asked = replace(request_of_all, model="lesion-lite0", recipe=recipe)
    assert settle(asked).recipe == Recipe()


class TestIdentity:
    def test_the_same_request_has_the_same_run(
        self, run: Run, request_of_all: TrainingRequest, dataset: Dataset
    ) -> None:
        split = split_scans(dataset, "grouped", 3)
        assert find_run(replace(request_of_all), split) == run
        assert run.folder.parent == request_of_all.instance / "runs"
        assert run.folder.name.startswith("binary-cnn-")

    @pytest.mark.parametrize(
        "changes",
        [
            {"method": "frozen"},
            {"method": "frozen", "head": "svm"},
            {"method": "frozen", "head": "knn"},
            {"model": "vgg16"},
            {"protocol": "random-80-20"},
            {"seed": 4},
            {"size": 48},
            {"precision": "mixed_float16"},
            {"weights": "imagenet"},
            {"recipe": Recipe(epochs=31)},
            {"recipe": Recipe(variants=1)},
            {"recipe": Recipe(balanced=False)},
            {"recipe": Recipe(normalisation="keras")},
            {"recipe": Recipe(normalisation="pytorch")},
        ],
    )
    def test_what_decides_the_result_makes_another_run(
        self,
        run: Run,
        request_of_all: TrainingRequest,
        split: Split,
        changes: dict[str, object],
    ) -> None:
        assert find_run(replace(request_of_all, **changes), split) != run

    @pytest.mark.parametrize(
        "changes",
        [
            {"publish": False},
            {"fresh": True},
            {"command": "flask study 004"},
            {"models": Path("elsewhere")},
        ],
    )
    def test_what_decides_nothing_keeps_the_run(
        self,
        run: Run,
        request_of_all: TrainingRequest,
        split: Split,
        changes: dict[str, object],
    ) -> None:
        assert find_run(replace(request_of_all, **changes), split).folder == run.folder

    @pytest.mark.parametrize("name", ["pixels", "labels", "groups"])
    def test_other_scans_make_another_run(
        self, run: Run, request_of_all: TrainingRequest, dataset: Dataset, split: Split, name: str
    ) -> None:
        """Newer code may crop the same files differently, or find other near-duplicates."""
        array = getattr(dataset, name).copy()
        array[0] = array[0] + 1
        changed = replace(dataset, **{name: array})
        assert find_run(request_of_all, replace(split, dataset=changed)) != run

    def test_another_division_makes_another_run(
        self, run: Run, request_of_all: TrainingRequest, split: Split
    ) -> None:
        moved = replace(
            split,
            train=np.sort(np.append(split.train, split.validation[0])),
            validation=split.validation[1:],
        )
        assert find_run(request_of_all, moved) != run

    def test_weights_files_are_told_apart_by_what_they_hold(
        self, request_of_all: TrainingRequest, split: Split, tmp_path: Path
    ) -> None:
        def find(name: str, content: bytes) -> Run:
            (tmp_path / name).write_bytes(content)
            changed = replace(request_of_all, weights=str(tmp_path / name))
            return find_run(changed, split)

        first = find("a.weights.h5", b"one").folder
        assert find("b.weights.h5", b"one").folder == first
        assert find("a.weights.h5", b"two").folder != first


@pytest.fixture
def written(
    request_of_all: TrainingRequest, split: Split, tmp_path: Path
) -> Callable[..., dict[str, object]]:
    def write(**changes: object) -> dict[str, object]:
        Run(replace(request_of_all, **changes), tmp_path).write_configuration(split)
        content: dict[str, object] = json.loads((tmp_path / "configuration.json").read_text())
        return content

    return write


class TestConfiguration:
    def test_all_that_was_asked_for_is_there(
        self, written: Callable[..., dict[str, object]], request_of_all: TrainingRequest
    ) -> None:
        content = written(method="frozen", head="svm")
        assert (content["method"], content["head"]) == ("frozen", "svm")
        assert content["recipe"] == asdict(request_of_all.recipe)
        assert content["seed"] == 3
        assert content["data"] == [str(request_of_all.data[0])]
        assert content["command"] == "flask train --model binary-cnn"
        assert "fresh" not in content

    def test_what_it_was_trained_with_is_there(
        self, written: Callable[..., dict[str, object]], dataset: Dataset, split: Split
    ) -> None:
        content = written()
        assert content["manifest"] == dataset.manifest
        assert content["parts"] == split.sizes
        assert content["backend"] == keras.backend.backend()
        versions = content["versions"]
        assert versions["python"] == platform.python_version()
        for name in ("keras", keras.backend.backend(), "numpy", "openvino", "scikit-learn"):
            assert versions[name] == importlib.metadata.version(name)


def test_a_run_knows_its_bundle_while_it_is_there(
    request_of_all: TrainingRequest, tmp_path: Path
) -> None:
    run = Run(request_of_all, tmp_path / "run")
    with run.claim():
        assert run.bundle is None
        (tmp_path / "bundle").mkdir()
        run.mark_published(tmp_path / "bundle")
        assert run.bundle == tmp_path / "bundle"
        (tmp_path / "bundle").rmdir()
        assert run.bundle is None


def test_a_fresh_run_forgets_all(request_of_all: TrainingRequest, tmp_path: Path) -> None:
    run = Run(replace(request_of_all, fresh=True), tmp_path)
    (tmp_path / "report").mkdir()
    (tmp_path / "report/README.md").touch()
    (tmp_path / "state.json").touch()
    with run.claim():
        assert [path.name for path in tmp_path.iterdir()] == ["lock"]
