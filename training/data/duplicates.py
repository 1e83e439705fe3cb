"""Near-duplicates and the leaks they make between the parts of a data set."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

NEAR_DUPLICATE_CORRELATION = 0.985
_BLOCK = 1024
_COARSE = 12  # of the 32 waves that a thumbnail's side holds
_ROUNDING = 1e-4


class Pairs(NamedTuple):
    """Pairs of near-duplicates, each once, ordered by the first scan and then by the second.

    Attributes:
        first: int64, shape (pairs,): index of a scan.
        second: int64, shape (pairs,): index of a later scan.
        correlation: float32, shape (pairs,): of their thumbnails, one perhaps mirrored.
        mirrored: bool, shape (pairs,): whether one resembles the other's mirror image more.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    correlation: NDArray[np.float32]
    mirrored: NDArray[np.bool_]


def find_pairs(
    thumbnails: NDArray[np.uint8], threshold: float = NEAR_DUPLICATE_CORRELATION
) -> Pairs:
    """Find all pairs of scans whose thumbnails, one perhaps mirrored left-right, correlate.

    Of two pictures' correlation, their coarse waves give all but what the fine ones may add at
    most: the product of the lengths of these. That bound is computed for every pair, at a tenth of
    the cost, and the correlation itself only where the bound is above the threshold.

    Args:
        thumbnails: uint8, shape (scans, side, side).
        threshold: Pearson correlation, at most 1.
    """
    plain = _standardise(thumbnails)
    mirrored = _standardise(thumbnails[:, :, ::-1])
    coarse, coarse_mirrored = _summarise(plain), _summarise(mirrored)
    found = []
    for start in range(0, len(plain), _BLOCK):
        block = slice(start, start + _BLOCK)
        others = coarse[start:].T
        bound = np.maximum(coarse[block] @ others, coarse_mirrored[block] @ others)
        first, second = np.nonzero(np.triu(bound > threshold - _ROUNDING, 1))
        first, second = first + start, second + start
        straight = _correlate(plain, plain, first, second)
        turned = _correlate(mirrored, plain, first, second)
        best = np.maximum(straight, turned)
        kept = best > threshold
        found.append((first[kept], second[kept], best[kept], (turned > straight)[kept]))
    return Pairs(*(np.concatenate(column) for column in zip(*found, strict=True)))


def group_near_duplicates(
    thumbnails: NDArray[np.uint8], threshold: float = NEAR_DUPLICATE_CORRELATION
) -> NDArray[np.int64]:
    """Number the groups of scans that show nearly the same picture, plain or mirrored.

    Two scans are near-duplicates when their thumbnails, one of them perhaps mirrored left-right,
    correlate above the threshold; a group is all that such pairs connect. The public data sets
    hold many mirrored and re-saved copies that no hash of the bytes finds.

    Args:
        thumbnails: uint8, shape (scans, side, side).
        threshold: Pearson correlation, at most 1.

    Returns:
        int64, shape (scans,): the group of each scan.
    """
    return group_pairs(find_pairs(thumbnails, threshold), len(thumbnails))


def group_pairs(pairs: Pairs, scans: int) -> NDArray[np.int64]:
    """Number the groups that pairs connect: int64, shape (scans,)."""
    links = (np.ones(len(pairs.first), bool), (pairs.first, pairs.second))
    _, groups = connected_components(coo_matrix(links, shape=(scans, scans)), directed=False)
    return np.asarray(groups, dtype=np.int64)


def _standardise(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Give each thumbnail zero mean and unit length, so that a dot product is a correlation."""
    flat = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    flat /= np.where(length > 0, length, 1)
    return flat


def _summarise(flat: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give the coarse waves of standardised thumbnails, and the length of all finer ones.

    Cauchy and Schwarz: the dot product of two such rows is at least that of the thumbnails.
    """
    side = round(flat.shape[1] ** 0.5)
    waves = dctn(flat.reshape(-1, side, side), axes=(1, 2), norm="ortho")
    coarse = waves[:, :_COARSE, :_COARSE].reshape(len(flat), -1)
    rest = np.square(flat).sum(axis=1) - np.square(coarse).sum(axis=1)
    return np.column_stack([coarse, np.sqrt(np.maximum(rest, 0))]).astype(np.float32)


def _correlate(
    one: NDArray[np.float32],
    other: NDArray[np.float32],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Give the dot product of rows of one with rows of the other, a few at a time."""
    found = np.empty(len(first), np.float32)
    for start in range(0, len(first), _BLOCK):
        rows = slice(start, start + _BLOCK)
        found[rows] = np.einsum("ij,ij->i", one[first[rows]], other[second[rows]])
    return found


def find_nearest(
    thumbnails: NDArray[np.uint8], row: int, candidates: Sequence[int]
) -> tuple[int, bool]:
    """Find the candidate that a scan resembles most, and whether it is its mirror image."""
    plain = _standardise(thumbnails[[row]])
    others = _standardise(thumbnails[list(candidates)])
    turned = _standardise(thumbnails[list(candidates)][:, :, ::-1])
    straight, mirrored = (plain @ others.T)[0], (plain @ turned.T)[0]
    best = int(np.maximum(straight, mirrored).argmax())
    return candidates[best], bool(mirrored[best] > straight[best])


def join_groups(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number the groups of scans that one grouping or the other puts together: int64, (scans,)."""
    scans = len(first)
    rows = np.arange(scans)
    nodes = scans + first.max() + 2 + second.max()
    ends = np.concatenate([scans + first, scans + first.max() + 1 + second])
    edges = coo_matrix((np.ones(2 * scans, bool), (np.tile(rows, 2), ends)), shape=(nodes, nodes))
    return np.asarray(connected_components(edges, directed=False)[1][:scans], np.int64)


def list_members(groups: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Give the scans of each group, as indices."""
    order = np.argsort(groups, kind="stable")
    return np.split(order, np.cumsum(np.unique(groups, return_counts=True)[1])[:-1])


def find_leaks(
    groups: NDArray[np.int64], train: NDArray[np.int64], test: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Give the test scans, as indices, that have a near-duplicate in the training part."""
    return test[np.isin(groups[test], groups[train])]


def find_contradictions(groups: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give the scans, as indices, whose near-duplicates carry another label."""
    order = np.lexsort((labels, groups))
    differs = (np.diff(groups[order]) == 0) & (np.diff(labels[order]) != 0)
    return np.nonzero(np.isin(groups, groups[order][1:][differs]))[0]
