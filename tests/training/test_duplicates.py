from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from training.data.duplicates import find_contradictions, find_leaks, group_near_duplicates

SHARED = Path(__file__).parents[2] / "../shared/data"


def shrink(pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.array([cv2.resize(one, (32, 32), interpolation=cv2.INTER_AREA) for one in pictures])


@pytest.fixture
def heads(draw_phantoms: Callable[..., tuple[NDArray[np.uint8], object]]) -> NDArray[np.uint8]:
    return draw_phantoms(12, size=96)[0][..., 0]


def test_different_heads_are_groups_of_their_own(heads: NDArray[np.uint8]) -> None:
    assert len(set(group_near_duplicates(shrink(heads)))) == len(heads)


def test_mirrored_resaved_and_dimmed_copies_join_their_original(heads: NDArray[np.uint8]) -> None:
    jpeg = cv2.imencode(".jpg", heads[2], [cv2.IMWRITE_JPEG_QUALITY, 40])[1]
    copies = [
        heads[0][:, ::-1],
        cv2.resize(heads[1], (61, 61), interpolation=cv2.INTER_AREA),
        cv2.imdecode(jpeg, cv2.IMREAD_GRAYSCALE),
        (heads[3] * 0.6 + 10).astype(np.uint8),
    ]
    groups = group_near_duplicates(shrink([*heads, *copies]))
    assert groups[len(heads) :].tolist() == groups[:4].tolist()
    assert len(set(groups)) == len(heads)


def test_upside_down_is_another_picture(heads: NDArray[np.uint8]) -> None:
    first, second = group_near_duplicates(shrink([heads[1], heads[1][::-1]]))
    assert first != second


def test_a_chain_of_pairs_is_one_group() -> None:
    """Ends may differ: a near-duplicate of a near-duplicate must not straddle a split either."""
    one, noise = np.random.default_rng(0).normal(size=(2, 32, 32))
    other = one + 0.3 * noise
    chain = np.array([one, (one + other) / 2, other])
    thumbnails = np.clip(128 + 25 * chain, 0, 255).astype(np.uint8)
    assert np.corrcoef(thumbnails[0].ravel(), thumbnails[2].ravel())[0, 1] < 0.985
    assert len(set(group_near_duplicates(thumbnails))) == 1
    assert len(set(group_near_duplicates(thumbnails[::2]))) == 2


def test_the_pairs_are_those_of_a_plain_comparison(heads: NDArray[np.uint8]) -> None:
    thumbnails = shrink(heads)
    threshold = 0.8  # low enough that some of the heads are alike

    def correlate(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> float:
        return float(np.corrcoef(first.ravel(), second.ravel())[0, 1])

    expected = np.arange(len(heads))
    for one in range(len(heads)):
        for other in range(one):
            pair = thumbnails[one], thumbnails[other]
            if max(correlate(*pair), correlate(pair[0][:, ::-1], pair[1])) > threshold:
                expected[expected == expected[one]] = expected[other]
    groups = group_near_duplicates(thumbnails, threshold)
    assert 1 < len(set(expected)) < len(heads)
    assert np.array_equal(groups[:, None] == groups, expected[:, None] == expected)


def test_blank_thumbnails_are_no_copies_of_anything() -> None:
    thumbnails = np.zeros((3, 32, 32), np.uint8)
    thumbnails[2] = np.arange(32)
    assert len(set(group_near_duplicates(thumbnails))) == 3


def test_leaks_are_test_scans_whose_group_trains() -> None:
    groups = np.array([0, 0, 1, 2, 2, 3])
    train, test = np.array([0, 2, 3]), np.array([1, 4, 5])
    assert find_leaks(groups, train, test).tolist() == [1, 4]
    assert find_leaks(groups, train, np.array([5])).tolist() == []


def test_contradictions_are_whole_groups_with_two_labels() -> None:
    groups = np.array([5, 1, 5, 2, 2, 5, 7])
    labels = np.array([0, 1, 1, 3, 3, 0, 2])
    assert find_contradictions(groups, labels).tolist() == [0, 2, 5]
    assert find_contradictions(groups, np.zeros(7, np.int64)).tolist() == []


@pytest.mark.skipif(not SHARED.exists(), reason="the shared scans are not here")
def test_the_copies_that_nickparvar_is_known_for_are_found() -> None:
    """Its official split leaks: nearly every healthy Testing scan has a copy in Training."""
    files = [
        sorted((SHARED / "nickparvar" / part / "notumor").glob("*.jpg"))
        for part in ("Training", "Testing")
    ]
    pictures = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for part in files for path in part]
    groups = group_near_duplicates(shrink(pictures))
    rows = np.arange(len(pictures))
    train, test = rows[: len(files[0])], rows[len(files[0]) :]
    assert len(find_leaks(groups, train, test)) / len(test) == pytest.approx(397 / 405, abs=0.03)
