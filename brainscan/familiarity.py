"""How far a picture's features are from those of the scans that a model knows.

The Mahalanobis distance of the means of feature maps of middle depths (Lee et al., 2018): what a
network makes of a chest or a parrot at its end may be anything, but its textures are not a head's.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FAMILIARITY_FILE = "familiarity.npz"


@dataclass(frozen=True, eq=False)
class Familiarity:
    """What the features of known scans look like.

    Attributes:
        centres: float32, shape (centres, width): means of groups of scans.
        whitening: float32, shape (width, components): makes the spread around a centre one in
            every direction.
    """

    centres: NDArray[np.float32]
    whitening: NDArray[np.float32]

    def measure(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Give the distance of features (scans, width) from the nearest centre: (scans,)."""
        away = (features[:, None] - self.centres) @ self.whitening
        distances: NDArray[np.float32] = np.sqrt(np.square(away).sum(axis=2).min(axis=1))
        return distances

    def write(self, folder: Path) -> None:
        """Write them into a bundle's folder."""
        np.savez(folder / FAMILIARITY_FILE, centres=self.centres, whitening=self.whitening)

    @classmethod
    def read(cls, folder: Path) -> "Familiarity":
        """Read them from a verified bundle's folder; raises OSError, ValueError or KeyError."""
        with np.load(folder / FAMILIARITY_FILE, allow_pickle=False) as arrays:
            return cls(arrays["centres"], arrays["whitening"])
