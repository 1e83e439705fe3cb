"""Labels that other scans' labels speak against (confident learning)."""

import numpy as np
from numpy.typing import NDArray

from training.data.task import Task

_FOLDS = 5
_COMPONENTS = 100
_NEIGHBOURS = 15
_LEAST_MARGIN = 0.5  # fewer false alarms, and hardly fewer errors found: docs/decisions.md


def guess_labels(
    descriptors: NDArray[np.float16],
    task: Task,
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
) -> NDArray[np.float64] | None:
    """Give the probabilities of the classes of each scan, by a model that has not seen it.

    The fifteen scans that look most like it vote, by the principal components of the descriptors.
    A fifth of the groups of near-duplicates is asked at a time and has no vote then; neither have
    scans of a tumour whose kind is not named.

    Args:
        descriptors: float16, shape (scans, numbers).
        task: what the labels mean.
        labels: int64, shape (scans,).
        groups: int64, shape (scans,): near-duplicates.

    Returns:
        float64, shape (scans, classes); None where a class has fewer than five groups.
    """
    from sklearn.decomposition import PCA
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.neighbors import KNeighborsClassifier

    named = task.is_named(labels)
    classes = range(len(task.classes))
    if min(len(np.unique(groups[labels == label])) for label in classes) < _FOLDS:
        return None
    components = min(_COMPONENTS, *descriptors.shape)
    numbers = PCA(components, svd_solver="randomized", random_state=0).fit_transform(
        descriptors.astype(np.float32)
    )
    guesses = np.zeros((len(labels), len(task.classes)))
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=0)
    for rest, asked in folds.split(numbers, labels, groups):
        taught = rest[named[rest]]
        model = KNeighborsClassifier(_NEIGHBOURS, weights="distance", algorithm="brute")
        model.fit(numbers[taught], labels[taught])
        guesses[np.ix_(asked, model.classes_)] = model.predict_proba(numbers[asked])
    return guesses


def find_label_errors(
    guesses: NDArray[np.float64], task: Task, labels: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find scans that are confidently taken for another class than their label says.

    Confident learning (Northcutt, Jiang and Chuang, 2021): a class's threshold is its mean
    probability among the scans that carry its label; a scan is counted to the likeliest of the
    classes whose threshold it reaches. Where that is not its label, and likelier than its label by
    half, the label is suspected.

    Args:
        guesses: float64, shape (scans, classes), of models that have not seen the scans.
        task: what the labels mean. A tumour whose kind is not named may be of any kind.
        labels: int64, shape (scans,).

    Returns:
        The suspected scans, the clearest first, and the class each is taken for: int64, both.
    """
    classes = range(len(task.classes))
    thresholds = np.array([guesses[labels == label, label].mean() for label in classes])
    reached = np.where(guesses >= thresholds, guesses, 0)
    counted = reached.argmax(axis=1)
    agrees = (counted == labels) | (~task.is_named(labels) & (counted != task.healthy))
    suspected = np.nonzero((reached.max(axis=1) > 0) & ~agrees)[0]
    # A scan whose kind is not named has no probability of its own label.
    padded = np.column_stack([guesses, np.zeros(len(guesses))])
    margin = guesses[suspected, counted[suspected]] - padded[suspected, labels[suspected]]
    order = np.argsort(-margin, kind="stable")
    order = order[margin[order] >= _LEAST_MARGIN]
    return suspected[order], counted[suspected[order]]
