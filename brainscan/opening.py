"""A published bundle → a model that is ready to answer."""

from pathlib import Path

import numpy as np

from brainscan.bundle import BundleError, Card, read_bundle, survey_bundles
from brainscan.bundle.store import CARD_FILE
from brainscan.engine import EngineError, OpenBundle, Outputs, choose_engine
from brainscan.familiarity import FAMILIARITY_FILE, Familiarity
from brainscan.model import Model, Observer


def open_model(folder: str | Path, engine: str = "openvino", threads: int = 0) -> Model:
    """Open a published model.

    Args:
        folder: a model's, of which the newest version that is whole and runs is opened (or where
            one was chosen, the newest up to that); or that of one version.
        engine: "openvino" or "tensorflow".
        threads: processor threads for one inference; 0 for one for each core.

    Raises:
        BundleError: there is no such model, or no version of it is whole.
        EngineError: that version cannot be run.
        EngineUnavailableError: the engine's packages are not installed.
    """
    folder = Path(folder).resolve()
    open_bundle = choose_engine(engine, threads)
    if (folder / CARD_FILE).is_file():
        return open_version(folder, open_bundle)
    installed = survey_bundles(folder.parent).get(folder.name)
    if installed is None:
        raise BundleError(f"There is no published model in {folder}.")
    reasons = []
    for version in installed.candidates:
        try:
            return open_version(folder / str(version), open_bundle)
        except (BundleError, EngineError) as error:
            reasons.append(str(error))
    raise BundleError(f"No version of {folder.name} can be used. {' '.join(reasons)}")


def open_version(folder: Path, open_bundle: OpenBundle, observe: Observer | None = None) -> Model:
    """Verify a bundle, open it, and check what it answers to one scan, which also warms it.

    Raises:
        BundleError: a file is missing or was changed.
        EngineError: the graph cannot be run, or answers otherwise than its card says.
    """
    card = read_bundle(folder)
    engine = open_bundle(folder, card)
    try:
        outputs = engine.predict(np.zeros((1, card.scan.size, card.scan.size, 1), np.uint8))
    except RuntimeError as error:
        raise EngineError(f"It fails on a scan as its card describes them: {error}") from error
    expected = (1, len(card.classes))
    if outputs.probabilities.shape != expected:
        raise EngineError(
            f"It gives probabilities of shape {outputs.probabilities.shape}; its card has "
            f"{len(card.classes)} classes."
        )
    if not np.allclose(outputs.probabilities.sum(), 1, rtol=0, atol=0.01):  # nor NaN
        raise EngineError("Its probabilities do not sum to 1.")
    if (outputs.heatmaps is None) != (card.feature_layer is None):
        raise EngineError("Its card and its graph disagree on whether there is a heat map.")
    if (outputs.lesions is not None) != card.has_lesion_map:
        raise EngineError("Its card and its graph disagree on whether there is a lesion map.")
    return Model(card, engine, observe, _read_familiarity(folder, card, outputs), folder)


def _read_familiarity(folder: Path, card: Card, outputs: Outputs) -> Familiarity | None:
    """Read what known scans look like, of a model that refuses others, and try it."""
    if card.refusal is None:
        return None
    if outputs.features is None:
        raise EngineError("Its card says when it refuses a picture; its graph has no features.")
    try:
        familiarity = Familiarity.read(folder)
        familiarity.measure(outputs.features)
    except Exception as error:  # zipfile and zlib have their own
        raise EngineError(f"Its {FAMILIARITY_FILE} cannot be used: {error}") from error
    return familiarity
