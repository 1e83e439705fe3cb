"""Near-duplicates and the leaks they make between the parts of a data set."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

NEAR_DUPLICATE_CORRELATION = 0.985
_BLOCK = 1024


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
    plain = _standardise(thumbnails)
    mirrored = _standardise(thumbnails[:, :, ::-1])
    firsts, seconds = [], []
    for start in range(0, len(plain), _BLOCK):
        block = plain[start : start + _BLOCK]
        similar = np.maximum(block @ plain.T, block @ mirrored.T) > threshold
        first, second = np.nonzero(similar)
        firsts.append(first + start)
        seconds.append(second)
    first, second = np.concatenate(firsts), np.concatenate(seconds)
    pairs = coo_matrix((np.ones(len(first), bool), (first, second)), shape=2 * (len(plain),))
    _, groups = connected_components(pairs, directed=False)
    return np.asarray(groups, dtype=np.int64)


def _standardise(thumbnails: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Give each thumbnail zero mean and unit length, so that a dot product is a correlation."""
    flat = thumbnails.reshape(len(thumbnails), -1).astype(np.float32)
    flat -= flat.mean(axis=1, keepdims=True)
    length = np.linalg.norm(flat, axis=1, keepdims=True)
    flat /= np.where(length > 0, length, 1)
    return flat


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
