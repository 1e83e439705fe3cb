from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest

from training.data.folders import read_trees
from training.data.sources import DataError
from training.data.task import BINARY_CLASSES, Task, set_task
from training.losses import UnnamedTumorAccuracy, UnnamedTumorCrossentropy

FOUR = ("glioma", "meningioma", "notumor", "pituitary")


def test_several_classes() -> None:
    task = Task.of_labels(["notumor", "glioma", "notumor"], binary=False)
    assert task == Task(("glioma", "notumor"))
    assert (task.healthy, task.outputs) == (1, 2)
    assert task.number(["notumor", "glioma"]).tolist() == [1, 0]
    assert task.encode(np.array([1, 0])).tolist() == [[0, 1], [1, 0]]
    assert isinstance(task.choose_loss(0.1), keras.losses.CategoricalCrossentropy)
    assert task.choose_accuracy() == "accuracy"
    outputs = np.array([[0.25, 0.75]], np.float32)
    assert task.read_outputs(outputs).tolist() == outputs.tolist()


def test_healthy_against_tumour_through_one_neuron() -> None:
    task = Task.of_labels(["notumor", "glioma", "tumor"], binary=True)
    assert task == Task(BINARY_CLASSES, binary=True)
    assert (task.healthy, task.outputs) == (0, 1)
    assert task.number(["notumor", "glioma", "tumor"]).tolist() == [0, 1, 1]
    assert task.encode(np.array([0, 1])).tolist() == [[0], [1]]
    assert isinstance(task.choose_loss(0.1), keras.losses.BinaryCrossentropy)
    assert task.read_outputs(np.array([[0.25]], np.float32)).tolist() == [[0.75, 0.25]]
    with pytest.raises(DataError, match="'cats' is healthy or a tumour"):
        Task.of_labels(["cats", "notumor"], binary=True)


def test_tumours_whose_kind_is_not_named() -> None:
    task = Task.of_labels([*FOUR, "tumor"], binary=False)
    assert task == Task(FOUR, unnamed=True)
    labels = task.number(["tumor", "notumor"])
    assert labels.tolist() == [4, 2]
    assert task.is_named(labels).tolist() == [False, True]
    assert task.outputs == 4
    assert task.encode(labels).tolist() == [[0, 0, 0, 0, 1], [0, 0, 1, 0, 0]]
    loss, accuracy = task.choose_loss(0.1), task.choose_accuracy()
    assert isinstance(loss, UnnamedTumorCrossentropy)
    assert isinstance(accuracy, UnnamedTumorAccuracy)
    assert (loss.healthy, accuracy.healthy, loss.label_smoothing) == (2, 2, 0.1)
    with pytest.raises(DataError, match="no class is healthy here"):
        Task.of_labels(["glioma", "tumor"], binary=False)


def test_contradictions() -> None:
    """A kind contradicts another kind and a healthy scan, but not a tumour without a name."""
    task = Task(FOUR, unnamed=True)
    groups = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    labels = np.array([0, 4, 4, 2, 0, 1, 3, 3])
    assert task.find_contradictions(groups, labels).tolist() == [2, 3, 4, 5]
    assert Task(("a", "b")).find_contradictions(groups[4:], np.array([0, 1, 1, 1])).tolist() == [
        0,
        1,
    ]


def test_one_class_is_not_enough(tmp_path: Path, grow_tree: Callable[..., Path]) -> None:
    roots = [
        grow_tree(tmp_path / "a", {"glioma": 2, "pred": 1}),
        grow_tree(tmp_path / "b", {"glioma_tumor": 1}),
    ]
    with pytest.raises(DataError, match=r"Only one class, 'glioma' \(3 images\)") as caught:
        set_task(read_trees(roots), binary=False)
    message = str(caught.value)
    assert str(roots[0]) in message
    assert str(roots[1]) in message
    assert "pred' (1 images): its name is not a class" in message
    assert "Expected a folder for each class" in message


def test_kinds_of_tumour_are_one_class_to_a_binary_model(
    tmp_path: Path, grow_tree: Callable[..., Path]
) -> None:
    trees = read_trees([grow_tree(tmp_path / "a", {"glioma": 2, "pituitary": 1})])
    with pytest.raises(DataError, match="Only one class, 'tumor'"):
        set_task(trees, binary=True)
    assert set_task(trees, binary=False).classes == ("glioma", "pituitary")
