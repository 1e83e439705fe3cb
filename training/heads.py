"""Classifiers of scikit-learn on a frozen backbone's features (document 002's future work)."""

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from training.fit import FitResult, FitSettings, Labelled, Scans
from training.frozen import FEATURES, build_network, compute_features
from training.models import Architecture

_PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2)
_NEIGHBOURS = (1, 3, 5, 9, 15, 25)
_BATCH = 64
_ROUNDS = 20_000  # many more than the smaller penalties need
_NOTE = (
    "It takes the features of the frozen backbone, computed once: scans were neither augmented "
    "nor shown in variants, and there were no epochs."
)


@dataclass(frozen=True, eq=False)
class NeighboursModel:
    """A backbone and the nearest neighbours of its features, called as a Keras model is.

    Attributes:
        backbone: of scans (batch, size, size, 1) to feature vectors.
        classifier: of feature vectors to shares of the neighbours.
        scale: that calibrates them: of the logarithms of those shares, each neighbourhood having
            one neighbour more of every class (Laplace), so that no class is impossible.
    """

    backbone: keras.Model
    classifier: Pipeline
    scale: float = 1.0

    def predict(
        self, pixels: NDArray[np.uint8], batch_size: int, verbose: int
    ) -> NDArray[np.float32]:
        """Give the probabilities of all classes: float32, shape (scans, classes)."""
        vectors = self.backbone.predict(pixels, batch_size=batch_size, verbose=verbose)
        return np.asarray(softmax(self.scale * self.weigh(vectors), axis=1), np.float32)

    def weigh(self, vectors: NDArray[np.float32]) -> NDArray[np.float64]:
        """Give the logarithms of the shares of the classes, shape (scans, classes)."""
        shares = np.asarray(self.classifier.predict_proba(vectors), np.float64)
        neighbours = self.classifier[-1].n_neighbors
        logarithms: NDArray[np.float64] = np.log(
            (neighbours * shares + 1) / (neighbours + shares.shape[1])
        )
        return logarithms

    def count_params(self) -> int:
        """Count the weights of the backbone; neighbours have none."""
        return int(self.backbone.count_params())


def fit_vectors(
    architecture: Architecture,
    training: Labelled,
    validation: Scans,
    settings: FitSettings,
    folder: Path,
    head: Literal["svm", "knn"],
) -> FitResult:
    """Fit a linear support vector machine, or nearest neighbours, on a backbone's features.

    The machine's penalty, or the number of neighbours, is the one with the best balanced accuracy
    on the validation part, which also calibrates the probabilities.

    Args:
        architecture: pretrained, with a layer "pool" and, at the end, a dense softmax.
        training: pixels, labels and groups; every scan counts, copies too.
        validation: pixels and labels.
        settings: how; of the recipe only `balanced` matters, and that to the machine.
        folder: of the run; keeps the features.
        head: which of the two.

    Returns:
        With the machine a Keras model, whose last layer computes the machine's decisions, scaled
        to be logits; with neighbours a `NeighboursModel`.

    Raises:
        ValueError: the machine's weights are beyond half precision.
    """
    network = build_network(architecture, settings)
    vectors = compute_features(network, training[0], folder, "training")
    known = compute_features(network, validation[0], folder, "validation")
    labels = validation[1]
    fitted = {
        name: make_pipeline(StandardScaler(), classifier).fit(vectors, training[1])
        for name, classifier in _list_candidates(head, settings, len(vectors))
    }
    # Of equals, the first: the machine with the widest margin, the fewest neighbours.
    name = max(fitted, key=lambda one: balanced_accuracy_score(labels, fitted[one].predict(known)))
    model: keras.Model | NeighboursModel = network
    if head == "knn":
        backbone = keras.Model(network.inputs, network.get_layer(FEATURES).output)
        plain = NeighboursModel(backbone, fitted[name])
        model = replace(plain, scale=find_scale(plain.weigh(known), labels))
    else:
        kernel, bias = express_as_layer(fitted[name])
        scale = find_scale(known @ kernel + bias, labels)
        if np.abs(scale * kernel).max() > np.finfo(np.float16).max:  # what a bundle keeps
            raise ValueError(
                "The backbone's features hardly differ from scan to scan, so a machine on them "
                "takes weights beyond half precision. Start from pretrained weights (--weights "
                "imagenet, or a file), or pass --head softmax."
            )
        network.layers[-1].set_weights([scale * kernel, scale * bias])
    note = f"Scans are classified by {name}, chosen on the validation part. {_NOTE}"
    return FitResult(model, [], 0, "float32", _BATCH, (note,))


def _list_candidates(
    head: Literal["svm", "knn"], settings: FitSettings, scans: int
) -> list[tuple[str, Any]]:
    if head == "knn":
        return [
            (f"the nearest of their neighbours ({count})", KNeighborsClassifier(count))
            for count in _NEIGHBOURS
            if count <= scans
        ]
    weight = "balanced" if settings.recipe.balanced else None
    machine = partial(LinearSVC, class_weight=weight, random_state=settings.seed, max_iter=_ROUNDS)
    return [
        (f"a linear support vector machine (C = {penalty:g})", machine(C=penalty))
        for penalty in _PENALTIES
    ]


def express_as_layer(machine: Pipeline) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give kernel (features, classes) and bias (classes,) of a scaler and a machine in one."""
    scaler, linear = machine[0], machine[1]
    coefficients, intercepts = linear.coef_, linear.intercept_
    if len(coefficients) == 1:  # of two classes: one decision, for the second
        coefficients = np.vstack([-coefficients, coefficients]) / 2
        intercepts = np.concatenate([-intercepts, intercepts]) / 2
    kernel = (coefficients / scaler.scale_).T
    return kernel, intercepts - scaler.mean_ @ kernel


def find_scale(decisions: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Find the factor that makes decisions logits: 0.1 to 100.

    Targets are a little less than certain (Platt, 1999): where no scan is wrong, the likelihood
    of certain ones would grow with the factor for ever.

    Args:
        decisions: float, shape (scans, classes), of the validation part: of the machine, or the
            logarithms of shares.
        labels: int64, shape (scans,).
    """
    scans, classes = decisions.shape
    doubt = 1 / (scans + 2)
    targets = np.full((scans, classes), doubt / (classes - 1))
    targets[np.arange(scans), labels] = 1 - doubt

    def mean_loss(logarithm: float) -> float:
        scaled = log_softmax(np.exp(logarithm) * decisions, axis=1)
        return float(-(targets * scaled).sum(axis=1).mean())

    found = minimize_scalar(mean_loss, bounds=(np.log(0.1), np.log(100)), method="bounded")
    return float(np.exp(found.x))
