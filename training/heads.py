"""What a frozen backbone's features are classified by: three heads."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from brainscan.bundle.sentences import FROZEN_FEATURES, MACHINE, NEIGHBOURS
from training.calibrate import find_factor, keep_probabilities
from training.data.split import Part
from training.fit import FitSettings, Fitted, fit
from training.frozen import BATCH, build_head, get_backbone, keep_features, list_head

_PENALTIES = (1e-5, 1e-4, 1e-3, 1e-2)
_NEIGHBOURS = (1, 3, 5, 9, 15, 25)
_ROUNDS = 20_000  # many more than the smaller penalties need


@dataclass(frozen=True)
class Head:
    """A classifier of feature vectors.

    Attributes:
        fit: fits it and gives the whole model of scans. It takes the whole network, whose head it
            replaces in place; features of training scans, and of validation scans to choose between
            candidates, float32, shape (rows, width of "pool"); and the settings. It raises
            ValueError where it cannot learn from these features.
        learns_unnamed: whether it can learn from tumours whose kind is not named.
        obstacle: why no bundle can be made of it; empty where one can.
    """

    fit: Callable[[keras.Model, Part, Part, FitSettings], Fitted]
    learns_unnamed: bool = False
    obstacle: str = ""


def _train_layers(
    network: keras.Model, training: Part, validation: Part, settings: FitSettings
) -> Fitted:
    """Train the network's own layers after "pool", or go on with the folder's run."""
    recipe = replace(settings.recipe, augmentation=0.0, variants=0, normalisation="kept")
    # To `fit`, the head is a network like any other.
    head = replace(settings.network, make=lambda _size, _outputs: build_head(network), load=None)
    settings = replace(settings, network=head, recipe=recipe, weights=None, precision="float32")
    fitted = fit(training, validation, settings)
    trained: Any = fitted.model
    for layer, source in zip(list_head(network), trained.layers[1:], strict=True):
        layer.set_weights(source.get_weights())
    return replace(fitted, model=network, batch=BATCH, notes=(FROZEN_FEATURES,))


def _fit_machine(
    network: keras.Model, training: Part, validation: Part, settings: FitSettings
) -> Fitted:
    """Fit a linear support vector machine for each penalty, and keep the best.

    The last dense layer computes its decisions as logits.
    """
    weight = "balanced" if settings.recipe.balanced else None
    make = partial(LinearSVC, class_weight=weight, random_state=settings.seed, max_iter=_ROUNDS)
    # Of equals, the one with the widest margin.
    candidates = {MACHINE.format(f"{c:g}"): make(C=c) for c in _PENALTIES}
    best, note = _choose(candidates, training, validation)
    kernel, bias = express_as_layer(best)
    scale = find_scale(validation.inputs @ kernel + bias, validation.labels)
    if np.abs(scale * kernel).max() > np.finfo(np.float16).max:  # what a bundle keeps
        raise ValueError(
            "The backbone's features hardly differ from scan to scan, so a machine on them takes "
            "weights beyond half precision. Start from pretrained weights (--weights imagenet, or "
            "a file), or pass --head softmax."
        )
    network.layers[-1].set_weights([scale * kernel, scale * bias])
    return Fitted(network, settings.task, notes=(note,))


def _keep_neighbours(
    network: keras.Model, training: Part, validation: Part, settings: FitSettings
) -> Fitted:
    """Keep the features of the training scans, and choose how many nearest neighbours vote."""
    counts = [count for count in _NEIGHBOURS if count <= len(training.labels)]
    # Of equals, the fewest.
    candidates = {NEIGHBOURS.format(count): KNeighborsClassifier(count) for count in counts}
    best, note = _choose(candidates, training, validation)
    plain = NeighboursModel(get_backbone(network), best)
    scale = find_scale(plain.weigh(validation.inputs), validation.labels)
    model = replace(plain, scale=scale)
    return Fitted(model, settings.task, calibrate=keep_probabilities, notes=(note,))


HEADS = {
    "softmax": Head(_train_layers, learns_unnamed=True),
    "svm": Head(_fit_machine),
    "knn": Head(
        _keep_neighbours,
        obstacle="Nearest neighbours are not a network, so there is no bundle to publish.",
    ),
}


def fit_frozen(
    training: Part, validation: Part, settings: FitSettings, head: Head, cache: Path
) -> Fitted:
    """Train a head on the features of a pretrained model, or go on with the folder's run.

    Args:
        training: scans.
        validation: scans.
        settings: what and how; its network is pretrained, and its augmentation, variants,
            normalisation and precision are not used.
        head: what is trained.
        cache: folder that keeps the features.

    Returns:
        The whole model, its backbone as it was.

    Raises:
        DivergenceError, DeviceMemoryError: as `training.fit.fit`.
        ValueError: the head cannot learn from these features.
    """
    keras.utils.set_random_seed(settings.seed)  # random weights are the same for the same seed
    network = settings.build(settings.weights)
    known, unseen = (
        replace(part, inputs=keep_features(network, part.inputs, name, cache))
        for name, part in (("training", training), ("validation", validation))
    )
    fitted = head.fit(network, known, unseen, settings)
    return replace(fitted, tensors=getattr(network, "tensors_loaded", 0))


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
        self, pixels: NDArray[np.uint8], *, batch_size: int, verbose: int
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


def _choose(candidates: dict[str, Any], training: Part, validation: Part) -> tuple[Pipeline, str]:
    """Fit all; give the one with the best balanced accuracy on validation scans, and its note."""
    fitted = {
        note: make_pipeline(StandardScaler(), one).fit(training.inputs, training.labels)
        for note, one in candidates.items()
    }

    def judge(note: str) -> float:
        answers = fitted[note].predict(validation.inputs)
        return float(balanced_accuracy_score(validation.labels, answers))

    best = max(fitted, key=judge)
    return fitted[best], best


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
    """Find the factor, 0.1 to 100, that makes decisions (scans, classes) logits.

    Targets are a little less than certain (Platt, 1999): where no scan is wrong, the likelihood
    of certain ones would grow with the factor forever.
    """
    scans, classes = decisions.shape
    doubt = 1 / (scans + 2)
    targets = np.full((scans, classes), doubt / (classes - 1))
    targets[np.arange(scans), labels] = 1 - doubt
    return find_factor(decisions, targets, (0.1, 100))
