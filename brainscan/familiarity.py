"""How far a picture's features are from those of the scans that a model knows.

Two measures of the features of middle depths, of which the greater counts. The Mahalanobis distance
(Lee et al., 2018): what a network makes of a chest or a parrot at its end may be anything, but its
textures are not a head's. And a logistic regression between scans and pictures that are not MRI of
a head: CT of one lies too near for the first. Both are 1 where they begin to refuse.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FAMILIARITY_FILE = "familiarity.npz"
_LARGEST_LOGIT = 10.0  # beyond, a picture is strange enough


@dataclass(frozen=True, eq=False)
class Familiarity:
    """What the features of known scans look like.

    Attributes:
        centres: float32, shape (centres, width): means of groups of scans.
        whitening: float32, shape (width, components): makes the spread around a centre the same in
            every direction, so that the distance is 1 where it begins to refuse.
        weights: float32, shape (width,): of the regression, which is 0 where it begins to refuse;
            None where there were no pictures to learn from.
        bias: of the regression.
    """

    centres: NDArray[np.float32]
    whitening: NDArray[np.float32]
    weights: NDArray[np.float32] | None = None
    bias: float = 0.0

    def measure(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give the distance of features (scans, width) from the known scans: (scans,)."""
        away = (features @ self.whitening)[:, None] - self._whitened_centres
        distances: NDArray[np.float32] = np.sqrt(np.square(away).sum(axis=2).min(axis=1))
        if self.weights is None:
            return distances
        logits = np.minimum(features @ self.weights + np.float32(self.bias), _LARGEST_LOGIT)
        larger: NDArray[np.float32] = np.maximum(distances, np.exp(logits))
        return larger

    @cached_property
    def _whitened_centres(self) -> NDArray[np.float32]:
        return self.centres @ self.whitening

    def write(self, folder: Path) -> None:
        """Write them into a bundle's folder."""
        arrays: dict[str, Any] = {"centres": self.centres, "whitening": self.whitening}
        if self.weights is not None:
            arrays |= {"weights": self.weights, "bias": self.bias}
        np.savez(folder / FAMILIARITY_FILE, **arrays)

    @classmethod
    def read(cls, folder: Path) -> "Familiarity":
        """Read them from a verified bundle's folder; a damaged file raises one of many errors."""
        # numpy leaves a damaged archive open if it opened it itself.
        with (
            (folder / FAMILIARITY_FILE).open("rb") as file,
            np.load(file, allow_pickle=False) as arrays,
        ):
            regression = (arrays["weights"], float(arrays["bias"])) if "weights" in arrays else ()
            return cls(arrays["centres"], arrays["whitening"], *regression)
