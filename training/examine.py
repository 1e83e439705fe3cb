"""What a published model is worth on labelled folders, asked as it is served.

folders → Answers → Evaluation → report
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import balanced_accuracy_score, roc_auc_score
from tqdm import tqdm

from brainscan import Examination, ImageFile, Model, ScanError
from brainscan.bundle import Card, DecisionFigures, Measurement, Parts, Pointing
from training.data.cache import draw_thumbnail
from training.data.duplicates import group_near_duplicates
from training.data.folders import ScanFile, ScanTree
from training.data.outlines import Outline, crop_outline
from training.data.plane import guess_plane
from training.data.sources import DataError, list_some
from training.data.task import NO_TUMOR, Task, choose_task
from training.evaluate import TestResults, evaluate, evaluate_each, evaluate_unnamed
from training.lesion.measure import measure_pointing


@dataclass(frozen=True, eq=False)
class Answer:
    """What a model said of one scan, and what is known of the scan.

    Attributes:
        scan: the file.
        found: the examination; the picture was not kept.
        outline: of the tumour, on the scan as the model took it; empty where there is no tumour,
            None where nobody has outlined it.
        plane: as `guess_plane` names it.
        thumbnail: uint8, shape (32, 32): the whole picture, to find copies by.
    """

    scan: ScanFile
    found: Examination
    outline: Outline | None
    plane: str
    thumbnail: NDArray[np.uint8]

    @property
    def source(self) -> str:
        """The name of the folder that the scan is from."""
        return self.scan.name.partition("/")[0]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a model is worth on labelled folders.

    Attributes:
        card: the model's, with what was measured here in place of its own measurement. Where the
            folders do not tell kinds of tumours apart, nor do its classes.
        own: what the model's card says of its own test part; None where nothing was measured.
        precision: of the graph that answered.
        results: of the scans whose class is one of the card's.
        answers: to all scans that could be read.
        right: bool, shape (answers,): whether the label is named; for a tumour whose kind the label
            does not say, whether one of any kind is.
        groups: int64, shape (answers,): near-duplicates, mirrored ones too, have the same number.
        seen: bool, shape (answers,): which are near-duplicates of scans that the model was trained
            on; None where these were not given.
        contradictions: scans whose near-duplicates carry another label.
        skipped: scan and reason, for files that could not be read.
    """

    card: Card
    own: Measurement | None
    precision: str
    results: TestResults
    answers: tuple[Answer, ...]
    right: NDArray[np.bool_]
    groups: NDArray[np.int64]
    seen: NDArray[np.bool_] | None
    contradictions: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]


def examine_trees(
    model: Model, trees: Sequence[ScanTree], max_pixels: int
) -> Iterator[Answer | ScanError | OSError]:
    """Examine the scans of folders one by one, under a progress bar.

    Args:
        model: to be asked.
        trees: the folders.
        max_pixels: the largest width × height accepted.

    Yields:
        The answer to each scan, or why it cannot be read.

    Raises:
        DataError: the folders have classes that the model does not know.
    """
    choose_task(model.card, (scan.label for tree in trees for scan in tree.scans))
    scans = [(tree, scan) for tree in trees for scan in tree.scans]
    for tree, scan in tqdm(scans, unit="scan"):
        outline = tree.annotations.outlines.get(scan.name.removeprefix(f"{tree.name}/"))
        try:
            yield _examine(model, scan, outline, max_pixels)
        except (OSError, ScanError) as error:
            yield error


def _examine(model: Model, scan: ScanFile, outline: Outline | None, max_pixels: int) -> Answer:
    file = ImageFile(scan.name, scan.path.read_bytes())
    found = model.examine_one(file, max_pixels=max_pixels)
    reading, picture = found.reading, found.picture
    if scan.label == NO_TUMOR:
        outline = ()
    elif outline:
        box = np.divide(reading.scan.box, reading.scan.whole * 2)
        outline = crop_outline(outline, box)
    # Many pictures would fill the memory.
    found = replace(found, reading=replace(reading, picture=None))
    return Answer(scan, found, outline, guess_plane(picture), draw_thumbnail(picture))


def evaluate_answers(
    model: Model,
    answers: Sequence[Answer],
    skipped: Sequence[tuple[str, str]] = (),
    seen: NDArray[np.uint8] | None = None,
) -> Evaluation:
    """Measure a model's answers.

    Args:
        model: that gave them.
        answers: to the scans of some folders.
        skipped: scan and reason, for files that could not be read.
        seen: uint8, shape (scans, 32, 32): thumbnails of the scans that it was trained on.

    Raises:
        DataError: no scan could be read.
    """
    if not answers:
        reasons = list_some([f"{name}: {reason}" for name, reason in skipped])
        raise DataError(f"None of the {len(skipped)} scans can be read:{reasons}")
    groups, leaked = _find_copies(np.stack([one.thumbnail for one in answers]), seen)
    card, names = model.card, [one.scan.label for one in answers]
    task, numbers = choose_task(card, names)
    labels = np.array([numbers[name] for name in names], np.int64)
    named = task.is_named(labels)
    asked = [answers[row] for row in np.nonzero(named)[0].tolist()]
    results = _collect_results(card, task, asked, labels[named])
    right = np.array([one.found.tumor for one in answers])
    right[named] = results.answers == results.labels
    measured = evaluate(
        results.probabilities,
        results.labels,
        groups[named],
        task.classes,
        protocol="folders",
        parts=Parts(0, 0, len(asked)),
        leaked=leaked[named],
        answers=results.answers,
    )
    measured = replace(
        measured,
        by_source=evaluate_each(results.answers, results.labels, [one.source for one in asked]),
        by_plane=evaluate_each(results.answers, results.labels, [one.plane for one in asked]),
        pointing=_measure_pointing(card, answers),
        decision=_measure_verdicts(card, answers, right),
    )
    if not named.all():
        unnamed = evaluate_unnamed(right[~named], groups[~named])
        measured = replace(measured, unnamed_tumors=unnamed)
    return Evaluation(
        # What is measured here is of the graph that is served, not of its difference to another.
        card=replace(card, classes=task.classes, measurement=measured, graph_difference=None),
        own=card.measurement,
        precision=model.engine.precision,
        results=results,
        answers=tuple(answers),
        right=right,
        groups=groups,
        seen=None if seen is None else leaked,
        contradictions=tuple(
            answers[row].scan.name for row in task.find_contradictions(groups, labels).tolist()
        ),
        skipped=tuple(skipped),
    )


def find_better_order(card: Card, evaluation: Evaluation) -> tuple[tuple[str, ...], float] | None:
    """Give the order of the classes in which a model would be right more often, if there is one.

    Returns:
        The names in that order, and the share of right answers; None also where the folders do not
        tell all its classes apart.
    """
    measured = evaluation.card.measurement
    if measured is None or evaluation.card.classes != card.classes:
        return None
    counts = np.array(measured.confusion)
    classes, answers = linear_sum_assignment(counts, maximize=True)
    fitting = counts[classes, answers].sum()
    if fitting <= counts.trace():
        return None
    order = tuple(card.classes[row] for row in classes[np.argsort(answers)])
    return order, float(fitting / counts.sum())


def _find_copies(
    thumbnails: NDArray[np.uint8], seen: NDArray[np.uint8] | None
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Number the near-duplicates, and tell which have one among the scans that were seen."""
    if seen is None:
        return group_near_duplicates(thumbnails), np.zeros(len(thumbnails), bool)
    groups = group_near_duplicates(np.concatenate([thumbnails, seen]))
    ours = groups[: len(thumbnails)]
    return ours, np.isin(ours, groups[len(thumbnails) :])


def _collect_results(
    card: Card, task: Task, answers: Sequence[Answer], labels: NDArray[np.int64]
) -> TestResults:
    found = [one.found for one in answers]
    if task.binary:
        tumor = np.array([one.tumor_probability for one in found], np.float32)
        probabilities = np.column_stack([1 - tumor, tumor])
        named = [int(one.tumor) for one in found]
    else:
        probabilities = np.array([list(one.probabilities.values()) for one in found], np.float32)
        named = [card.classes.index(one.label) for one in found]
    names = [one.scan.name for one in answers]
    return TestResults(names, probabilities, labels, np.array(named, np.int64))


def _measure_verdicts(
    card: Card, answers: Sequence[Answer], right: NDArray[np.bool_]
) -> DecisionFigures:
    """Measure what the verdicts are worth, as they were given."""
    found = [one.found for one in answers]
    truth = np.array([one.scan.label != NO_TUMOR for one in answers])
    both = bool(truth.any() and not truth.all())
    sure = np.array([not one.uncertain and one.verdict != "not-recognised" for one in found])
    left_open = [
        (one.scan.label in one.found.possible, len(one.found.possible))
        for one in answers
        if one.scan.label in card.classes and one.found.possible
    ]
    of_kinds = card.decision is not None and card.decision.kind_from and left_open
    covered, left = np.mean(left_open, axis=0).tolist() if of_kinds else (None, None)
    seen, scores = [one.tumor for one in found], [one.tumor_probability for one in found]
    return DecisionFigures(
        tumor_balanced_accuracy=float(balanced_accuracy_score(truth, seen)) if both else None,
        tumor_roc_auc=float(roc_auc_score(truth, scores)) if both else None,
        unclear=float(np.mean([one.verdict == "unclear" for one in found])),
        sure=float(sure.mean()),
        sure_accuracy=float(right[sure].mean()) if sure.any() else None,
        kinds_covered=covered,
        kinds_left=left,
    )


def _measure_pointing(card: Card, answers: Sequence[Answer]) -> Pointing | None:
    known = [one for one in answers if one.outline is not None]
    found = [one.found for one in known]
    maps = [one.heat if one.lesion_map is None else one.lesion_map for one in found]
    drawn = [one for one in maps if one is not None]  # all, or none
    if not drawn:
        return None
    return measure_pointing(
        np.stack(drawn),
        np.stack([one.scan.pixels for one in found]),
        [one.outline for one in known],
        card.decision.lesion if card.decision else None,
        np.array([one.verdict not in ("no-tumor", "not-recognised") for one in found]),
    )
