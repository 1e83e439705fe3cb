"""What a model does not recognise: what known scans look like, fitted against other pictures.

A limit is set between scans as strange scanners may show them and pictures that are not MRI of a
head, not by the tail of the training scans: the same limit would refuse half of the slices of
healthy heads from elsewhere.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import keras
import numpy as np
from numpy.typing import NDArray
from sklearn.covariance import LedoitWolf
from sklearn.linear_model import LogisticRegression

from brainscan.bundle import PictureFigures, Refusal, RefusalFigures
from brainscan.engine.depths import list_middle_maps, summarise
from brainscan.familiarity import Familiarity
from brainscan.messages import ScanError
from brainscan.scan import ScanSpecification, read_scan
from brainscan.scan.folders import find_images
from training.data.sources import DataError
from training.data.split import Part
from training.pictures import draw_montages, draw_pictures
from training.strangers import vary_scan

Floats = NDArray[np.floating]

_DRAWN, _MONTAGES = 800, 80
_MOST_SCANS, _MOST_VARIED = 3000, 1500
_BATCH = 32
_COMPONENTS = 384  # directions in which distances are measured, at most
_PENALTY = 3e-3  # the inverse strength of the regression's
_SCANS_WITHIN = 0.992  # of each way of showing scans
_PICTURES_WITHIN = 0.05  # of those that a measure can tell from scans at all
_OF_THE_GAP = 1 / 3  # by which the regression lets scans of other scanners be stranger than ours


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures that are not MRI slices of a head, prepared as scans are.

    Attributes:
        pixels: uint8, shape (pictures, size, size, 1).
        kinds: of each: the name of its folder, or what was drawn.
        real: of each, whether it was in a folder: bool, shape (pictures,).
    """

    pixels: NDArray[np.uint8]
    kinds: tuple[str, ...]
    real: NDArray[np.bool_]

    def __getitem__(self, rows: slice) -> "Pictures":
        return Pictures(self.pixels[rows], self.kinds[rows], self.real[rows])


@dataclass(frozen=True, eq=False)
class Recognition:
    """What a model recognises as an MRI slice of a head.

    Attributes:
        familiarity: what the scans that it knows look like.
        refusal: where it begins to refuse.
        pictures: that are not MRI slices of a head and had no part in the choice.
    """

    familiarity: Familiarity
    refusal: Refusal
    pictures: Pictures


def gather_pictures(
    folders: Sequence[Path], scans: NDArray[np.uint8], specification: ScanSpecification, seed: int
) -> Pictures:
    """Read the pictures of folders and draw others; each kind lies in a row.

    Args:
        folders: of pictures to refuse; those below them count as theirs.
        scans: uint8, shape (scans, size, size, 1): some are put together as montages.
        specification: how the model wants its scans.
        seed: of what is drawn.

    Raises:
        DataError: a folder holds no picture that can be read.
    """
    found: list[tuple[str, bool, NDArray[np.uint8]]] = []
    for folder in folders:
        files = find_images([folder]) if folder.is_dir() else []
        pictures = _read_all((path.read_bytes() for path in files), specification)
        if not pictures:
            raise DataError(
                f"{folder} holds no picture that can be read. --refuse takes a folder of pictures "
                "that are not MRI slices of a head, such as chest X-rays. Give another folder."
            )
        found += [(folder.name, True, pixels) for pixels in pictures]
    drawn = sorted(draw_pictures(_DRAWN, seed), key=lambda one: one[0])
    drawn += [("montage", picture) for picture in draw_montages(scans, _MONTAGES, seed)]
    for kind, picture in drawn:
        file = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 0])[1].tobytes()
        found += [(kind, False, pixels) for pixels in _read_all([file], specification)]
    kinds, real, pixels = zip(*found, strict=True)
    return Pictures(np.stack(pixels), kinds, np.array(real))


def _read_all(files: Iterable[bytes], specification: ScanSpecification) -> list[NDArray[np.uint8]]:
    """Prepare pictures as scans are; what cannot be read needs no model to refuse it."""
    prepared = []
    for data in files:
        with suppress(ScanError):
            prepared.append(read_scan(data, specification).pixels)
    return prepared


def compute_features(model: keras.Model, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Give the features that the served graph will: float32, shape (scans, width).

    Args:
        model: with a convolution.
        pixels: uint8, shape (scans, size, size, 1).
    """
    network, parts = _end_in_the_middle(model), []
    for start in range(0, len(pixels), _BATCH):  # the maps of all would fill the memory
        maps = network.predict_on_batch(pixels[start : start + _BATCH])["middle"]
        parts.append(keras.ops.convert_to_numpy(summarise(maps)))
    return np.concatenate(parts)


@lru_cache(1)  # tracing it takes longer than a batch
def _end_in_the_middle(model: keras.Model) -> keras.Model:
    return keras.Model(model.inputs, {"middle": list_middle_maps(model)})


def fit_refusal(
    model: keras.Model, training: Part, validation: Part, pictures: Pictures, seed: int
) -> Recognition:
    """Fit what known scans look like, and set where it begins to refuse.

    Args:
        model: as it will be served, with a convolution.
        training: scans to learn from; of many, some are drawn.
        validation: scans that the limits are set on.
        pictures: what to refuse: half of them to learn from and to set the limits on, half to test.
        seed: of what is drawn.
    """
    random = np.random.default_rng(seed)

    def draw(part: Part, most: int) -> NDArray[np.int64]:
        return np.sort(random.permutation(len(part.inputs))[:most])

    def show_strangely(part: Part, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        varied = [vary_scan(random, part.inputs[row]) for row in rows]
        return compute_features(model, np.stack(varied))

    rows, varied = draw(training, _MOST_SCANS), draw(training, _MOST_VARIED)
    known = np.concatenate(
        [compute_features(model, training.inputs[rows]), show_strangely(training, varied)]
    )
    labels = np.concatenate([training.labels[rows], training.labels[varied]])
    held = draw(validation, _MOST_VARIED)
    taught, kept_out = pictures[::2], pictures[1::2]
    plain = compute_features(model, validation.inputs[held])
    familiarity = fit_familiarity(
        known,
        labels,
        compute_features(model, taught.pixels),
        weigh_pictures(taught),
        (plain, show_strangely(validation, held)),
    )
    return Recognition(familiarity, Refusal(distance_above=1.0), kept_out)


def weigh_pictures(pictures: Pictures) -> NDArray[np.float64]:
    """Give each picture a weight, 1 in all: real ones weigh half, and each kind the same."""
    weights = np.zeros(len(pictures.kinds))
    kinds = np.array(pictures.kinds)
    for real in (False, True):
        here = pictures.real == real
        for kind in np.unique(kinds[here]):
            rows = here & (kinds == kind)
            weights[rows] = 1 / rows.sum() / len(np.unique(kinds[here]))
    normalised: NDArray[np.float64] = weights / weights.sum()
    return normalised


def fit_familiarity(
    known: Floats,
    labels: NDArray[np.int64],
    pictures: Floats,
    weights: NDArray[np.float64],
    held_out: Sequence[Floats],
) -> Familiarity:
    """Fit centres and spread of known scans, and a regression between them and other pictures.

    Args:
        known: features of scans, shape (scans, width).
        labels: what they show: each class has its own centre.
        pictures: features of pictures to refuse, shape (pictures, width).
        weights: of these pictures, shape (pictures,), 1 in all.
        held_out: features of other scans to set the limits on: a few ways of showing them.
    """
    known, pictures = np.asarray(known, np.float64), np.asarray(pictures, np.float64)
    classes, groups = np.unique(labels, return_inverse=True)
    centres = np.stack([known[labels == one].mean(axis=0) for one in classes])
    whitening = _find_whitening(known - centres[groups])
    plain = Familiarity(centres.astype(np.float32), whitening.astype(np.float32))

    def distance(features: Floats) -> Floats:
        return plain.measure(np.asarray(features, np.float32))

    reach = _find_reach([distance(one) for one in held_out])
    # The regression sees to pictures that are nearer, so strange scans get all of the gap.
    farthest = _find_gap(reach, distance(pictures))
    middle = known.mean(axis=0)
    both = np.concatenate([known, pictures])
    importance = np.concatenate([np.full(len(known), 1 / len(known)), weights]) * len(both) / 2
    regression = LogisticRegression(C=_PENALTY, max_iter=2000).fit(
        (both - middle) @ whitening, np.arange(len(both)) >= len(known), importance
    )
    slopes = whitening @ regression.coef_[0]

    def logit(features: Floats) -> Floats:
        logits: Floats = (features - middle) @ slopes
        return logits

    reach = _find_reach([logit(one) for one in held_out])
    limit = reach + _OF_THE_GAP * (_find_gap(reach, logit(pictures)) - reach)
    return Familiarity(
        plain.centres,
        (whitening / farthest).astype(np.float32),
        slopes.astype(np.float32),
        float(-middle @ slopes - limit),
    )


def _find_whitening(deviations: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give what makes deviations from centres, (scans, width), spread evenly: (width, components).

    The covariance is shrunk (Ledoit and Wolf, 2004), each feature in units of its own deviation.
    """
    units = deviations.std(axis=0) + 1e-6
    values, directions = np.linalg.eigh(LedoitWolf().fit(deviations / units).covariance_)
    whitening = (directions / np.sqrt(values))[:, -_COMPONENTS:]
    scaled: NDArray[np.float64] = whitening / units[:, None]
    return scaled


def _find_reach(scans: Sequence[Floats]) -> float:
    """Give what nearly all scans lie within, in whatever way they are shown."""
    return max(float(np.quantile(one, _SCANS_WITHIN)) for one in scans)


def _find_gap(reach: float, pictures: Floats) -> float:
    """Give the far side of the gap between scans and those pictures that lie beyond them."""
    beyond = pictures[pictures > reach]
    return float(np.quantile(beyond, _PICTURES_WITHIN)) if len(beyond) else reach


def measure_refusal(
    model: keras.Model, known: Recognition, scans: NDArray[np.uint8]
) -> RefusalFigures:
    """Measure how many scans and how many pictures of each kind are refused.

    Args:
        model: with a convolution.
        known: what it recognises.
        scans: uint8, shape (scans, size, size, 1), of the test part.
    """

    def refuse(pixels: NDArray[np.uint8]) -> NDArray[np.bool_]:
        distances = known.familiarity.measure(compute_features(model, pixels))
        return distances > known.refusal.distance_above

    pictures = known.pictures
    refused, kinds = refuse(pictures.pixels), np.array(pictures.kinds)
    return RefusalFigures(
        scans=float(refuse(scans).mean()),
        pictures={
            kind: PictureFigures(int((kinds == kind).sum()), float(refused[kinds == kind].mean()))
            for kind in dict.fromkeys(pictures.kinds)
        },
    )
