"""A training from start to end.

Dataset → Split → Fitted → Calibrated → Measured → bundle
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import keras
import numpy as np
from numpy.typing import NDArray

from brainscan.bundle import Card, Decision, LesionMap, read_bundle, read_served
from brainscan.bundle.sentences import LIMITS_WITH_REFUSAL
from brainscan.engine.depths import has_convolution
from brainscan.familiarity import Familiarity
from brainscan.files import write_text
from brainscan.scan import ScanSpecification
from training.calibrate import apply_temperature
from training.card import draw_up_card, measure_test_part
from training.checkpoint import count_epochs
from training.compare import is_worse
from training.data.dataset import Dataset, describe_problems, load_dataset
from training.data.outlines import draw_mask
from training.data.split import OF_VARIANTS, Part, Split, split_scans
from training.data.variants import keep_variants
from training.decide import choose_decision, choose_lesion_map, see_tumors
from training.device import describe_device
from training.evaluate import TestResults
from training.fit import FitSettings, Fitted, fit
from training.half_precision import round_weights
from training.heads import HEADS, fit_frozen
from training.models import architecture
from training.publish import publish
from training.refuse import Recognition, fit_refusal, gather_pictures, measure_refusal
from training.report import write_plots, write_report
from training.run import Run, TrainingRequest, find_run, settle

CACHE = "cache"  # of the instance: prepared scans, and features


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A fitted model whose probabilities mean what they say, as it will be served.

    Attributes:
        fitted: the model.
        temperature: that its logits were divided by.
        decision: how its outputs become a verdict.
        recognition: what it recognises; None for a model without convolutions.
    """

    fitted: Fitted
    temperature: float
    decision: Decision
    recognition: Recognition | None


@dataclass(frozen=True, eq=False)
class Measured:
    """A model and what it is worth on the test part.

    Attributes:
        fitted: the model.
        card: everything but the version, the files, the feature layer and the graph's difference,
            which publishing adds.
        results: its answers to the test part.
        familiarity: what the scans that it knows look like; None where it recognises everything.
    """

    fitted: Fitted
    card: Card
    results: TestResults
    familiarity: Familiarity | None

    def write_report(self, folder: Path, card: Card, *, published: bool = True) -> None:
        """Write the report into a folder, with a card that may have been numbered since."""
        write_report(folder, card, self.fitted.history, self.results, published=published)


@dataclass(frozen=True)
class TrainingOutcome:
    """Where a finished training lies: its run with the report, its bundle, and its card."""

    run: Path
    bundle: Path | None
    card: Card


def train(
    request: TrainingRequest, tell: Callable[[str], None] = lambda _line: None
) -> TrainingOutcome:
    """Train a model, measure it and publish it; a run that was cut off resumes where it stopped.

    Args:
        request: what to train on what, and how.
        tell: takes lines about the progress: what the data holds, and what happens next.

    Raises:
        DataError, SplitError: the data cannot be used or divided.
        RunBusyError: the same run is being trained already.
        PublishError: nothing was published; the run and its report are kept.
        DeviceMemoryError: the device has too little memory for the model.
        ValueError: the model is not known, or cannot be trained by this method and head.
    """
    request = settle(request)
    dataset = load(request)
    split = split_scans(dataset, request.protocol, request.seed)
    run = find_run(request, split)
    for line in describe_problems(dataset):
        tell(line)
    sizes = ", ".join(f"{count:,} {name}" for name, count in split.sizes.items())
    tell(f"Protocol {request.protocol}: {sizes}. The run is kept in {run.folder}.")
    with run.claim():
        if request.publish is not False and run.bundle:
            card = read_bundle(run.bundle)
            if card.training and card.training.refit == request.refit:
                tell("This run has been published already; --fresh trains it again from scratch.")
                return TrainingOutcome(run.folder, run.bundle, card)
        run.write_configuration(split)
        tell(f"Device: {describe_device()}.")
        if kept := count_epochs(run.folder):
            tell(f"Resuming after epoch {kept}.")
        fitted = fit_split(split, run)
        tell("Calibrating, measuring on the test part and writing the report.")
        calibrated = calibrate(fitted, split, run)
        measured = measure(calibrated, split, run)
        if not _shall_publish(request, measured.card, tell):
            return TrainingOutcome(run.folder, None, measured.card)
        again = None
        if request.refit:
            tell("Training again, on all scans, the model that is to be served.")
            again = refit(calibrated, split, run)
        bundle = publish_measured(measured, split, run, again)
        return TrainingOutcome(run.folder, bundle, read_bundle(bundle))


def _shall_publish(request: TrainingRequest, card: Card, tell: Callable[[str], None]) -> bool:
    """Decide what the request leaves open, and say why."""
    if request.publish is not None:
        return request.publish
    served = read_served(request.models, request.model)
    if served is None:
        return True
    worse, reason = is_worse(card, served)
    tell(reason if worse else f"{reason} It is published.")
    return not worse


def load(request: TrainingRequest) -> Dataset:
    """Read the scans that a request names, as its network takes them."""
    cache = request.instance / CACHE
    dataset = load_dataset(
        request.data,
        ScanSpecification(request.size),
        cache,
        binary=architecture(request.model).binary,
        exclude=request.exclude,
        manifest=request.manifest,
    )
    if request.recipe.variants or request.protocol == OF_VARIANTS:
        dataset = replace(dataset, variants=keep_variants(dataset.pixels, cache))
    return dataset


def fit_split(
    split: Split, run: Run, report: Callable[[int, float], None] = lambda _epoch, _accuracy: None
) -> Fitted:
    """Train on the training part, or go on with the run; the validation part steers.

    Args:
        split: the scans.
        run: what is trained, and its folder.
        report: as `FitSettings` has it.
    """
    request, head = run.request, HEADS[run.request.head]
    settings = FitSettings(
        architecture(request.model),
        split.dataset.task,
        request.recipe,
        request.size,
        run.folder,
        request.seed,
        request.weights,
        request.precision,
        report,
    )
    unnamed = split.unnamed_train if head.learns_unnamed else split.unnamed_train[:0]
    training, validation = split.take(split.train, unnamed), split.take(split.validation)
    if request.method == "frozen":
        return fit_frozen(training, validation, settings, head, request.instance / CACHE)
    return fit(training, validation, settings)


def calibrate(fitted: Fitted, split: Split, run: Run) -> Calibrated:
    """Let confidence be what it says, and choose every threshold, on the validation part."""
    validation = split.take(split.validation)
    probabilities = fitted.predict(validation.inputs)
    temperature = fitted.calibrate(fitted.model, probabilities, validation.labels)
    probabilities = fitted.predict(validation.inputs)
    decision = choose_decision(probabilities, validation.labels, split.dataset.classes)
    if architecture(run.request.model).lesion:
        maps = fitted.predict_lesions(validation.inputs)
        seen = see_tumors(probabilities, split.dataset.classes, decision)
        lesion = _choose_lesion_map(maps * seen[:, np.newaxis, np.newaxis], validation)
        decision = replace(decision, lesion=lesion)
    return Calibrated(fitted, temperature, decision, _learn_to_recognise(fitted, split, run))


def _choose_lesion_map(maps: NDArray[np.float32], validation: Part) -> LesionMap:
    side = maps.shape[1:]
    outlined = [row for row, outline in enumerate(validation.outlines) if outline]
    blank = [row for row, outline in enumerate(validation.outlines) if outline == ()]
    size = validation.inputs.shape[1]
    masks = [draw_mask(validation.outlines[row] or (), size) for row in outlined]
    fine = [cv2.resize(maps[row], (size, size)) for row in outlined]
    return choose_lesion_map(
        np.reshape(fine, (-1, size, size)),
        np.reshape(masks, (-1, size, size)) > 0,
        maps[blank].reshape(-1, *side),
    )


def _learn_to_recognise(fitted: Fitted, split: Split, run: Run) -> Recognition | None:
    """Let a model with convolutions refuse what is not an MRI slice of a head."""
    model, request = fitted.model, run.request
    if not isinstance(model, keras.Model) or not has_convolution(model):
        return None
    training, validation = split.take(split.train), split.take(split.validation)
    specification = ScanSpecification(request.size)
    pictures = gather_pictures(request.refuse, training.inputs, specification, request.seed)
    return fit_refusal(model, training, validation, pictures, request.seed)


def measure(calibrated: Calibrated, split: Split, run: Run) -> Measured:
    """Look at the test part, once, and write the run's report."""
    fitted, known = calibrated.fitted, calibrated.recognition
    measurement, results = measure_test_part(split, fitted, calibrated.decision)
    card = draw_up_card(run.request, split, fitted, calibrated.temperature, measurement)
    card = replace(card, decision=calibrated.decision)
    if known is not None and isinstance(fitted.model, keras.Model):
        refused = measure_refusal(fitted.model, known, split.take(split.test).inputs)
        card = replace(
            card,
            measurement=replace(measurement, refusal=refused),
            refusal=known.refusal,
            limits=LIMITS_WITH_REFUSAL,
        )
    measured = Measured(fitted, card, results, known.familiarity if known else None)
    measured.write_report(run.folder / "report", card, published=False)
    write_plots(run.folder / "plots.html", card, fitted.history, results)
    write_text(run.folder / "card.json", card.to_json())
    return measured


def refit(calibrated: Calibrated, split: Split, run: Run) -> Calibrated:
    """Train in the same way on all scans; temperature and thresholds stay those of the first.

    The test part was kept out of the first model so that it could be measured. What it teaches
    belongs to those whose scans come next.
    """
    parts = (split.train, split.validation, split.test)
    everything = replace(
        split,
        train=np.sort(np.concatenate(parts)),
        unnamed_train=np.sort(np.concatenate([split.unnamed_train, split.unnamed_test])),
    )
    again = fit_split(everything, replace(run, folder=run.folder / "refit"))
    if isinstance(again.model, keras.Model):
        apply_temperature(again.model, calibrated.temperature)
        round_weights(again.model)
    return replace(calibrated, fitted=again, recognition=_learn_to_recognise(again, split, run))


def publish_measured(
    measured: Measured, split: Split, run: Run, served: Calibrated | None = None
) -> Path:
    """Convert the model, or what `refit` gave in its place; publish it, and give the folder."""
    test = split.take(split.test)
    model, card, familiarity = measured.fitted.model, measured.card, measured.familiarity
    if served is not None and card.training is not None:
        model, known = served.fitted.model, served.recognition
        card = replace(card, training=replace(card.training, refit=True))
        if known is not None:
            familiarity, card = known.familiarity, replace(card, refusal=known.refusal)
    bundle = publish(
        model,
        card,
        test.inputs,
        run.request.models,
        measured.write_report,
        outlines=test.outlines,
        familiarity=familiarity,
        measured=measured.fitted.model,
    )
    run.mark_published(bundle)
    return bundle
