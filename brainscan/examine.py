"""The story of a prediction: a file → its picture → a prepared scan → what the model says.

An examination happens once; every answer serialises it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from brainscan.bundle import BundleError, Card, read_bundle, survey_bundles
from brainscan.bundle.store import CARD_FILE
from brainscan.engine import Engine, EngineError, OpenBundle, choose_engine
from brainscan.heatmap import render_heatmap
from brainscan.messages import Message, ScanError
from brainscan.scan import MAX_PIXELS, Picture, PreparedScan, prepare_scan, read_picture
from brainscan.scan.folders import find_images

# Few answers of the committed models are below it, and nearly half of their mistakes: see
# docs/decisions.md.
UNCERTAIN_BELOW = 0.7


@dataclass(frozen=True)
class ImageFile:
    """A file as it was received: the name its sender gave it, and its bytes."""

    name: str
    data: bytes


@dataclass(frozen=True, eq=False)
class Reading:
    """A file that was read and prepared for a model.

    Attributes:
        name: the file's.
        scan: as the model takes it.
        picture: what the scan was made of; None where it was not kept, or came prepared.
        warnings: what a reader of the prediction should know of the file.
        seconds: that it took.
    """

    name: str
    scan: PreparedScan
    picture: Picture | None = None
    warnings: tuple[Message, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class Examination:
    """What a model says of one file, and all that led to it.

    Attributes:
        reading: the file's.
        card: the model's.
        precision: of the graph that answered: "fp16", "int8" or "keras".
        probabilities: of every class, in the model's order, 0 to 1, summing to 1.
        heat: float32, shape (rows, columns), 0 to 1, of the part of the scan that the model saw;
            None for a model without convolutions.
        warnings: what a reader should know.
    """

    reading: Reading
    card: Card
    precision: str
    probabilities: Mapping[str, float]
    heat: NDArray[np.float32] | None
    warnings: tuple[Message, ...]

    @property
    def name(self) -> str:
        """The file's name."""
        return self.reading.name

    @property
    def scan(self) -> PreparedScan:
        """The scan as the model took it."""
        return self.reading.scan

    @property
    def picture(self) -> Picture:
        """The picture that the file holds, with the outline of the head.

        Raises:
            LookupError: it was not kept, or the scan came prepared.
        """
        if self.reading.picture is None:
            raise LookupError(f"The picture of {self.name} was not kept.")
        return self.reading.picture

    @cached_property
    def label(self) -> str:
        """The most probable class."""
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def confidence(self) -> float:
        """The probability of that class, 0 to 1."""
        return self.probabilities[self.label]

    @property
    def tumor(self) -> bool:
        """Whether that class is a tumour."""
        return self.card.is_tumor(self.label)

    @property
    def tumor_probability(self) -> float:
        """The probability of a tumour of any kind, 0 to 1."""
        shares = self.probabilities.items()
        return min(1.0, sum(share for label, share in shares if self.card.is_tumor(label)))

    @property
    def uncertain(self) -> bool:
        """Whether many answers with such a confidence are wrong."""
        return self.confidence < UNCERTAIN_BELOW

    @cached_property
    def heatmap(self) -> bytes | None:
        """A PNG to lay over the picture; None where the model gives none."""
        if self.heat is None:
            return None
        return render_heatmap(self.heat, self.scan.box, self.scan.whole)


# Takes the examinations of files that were examined together, and the seconds of each stage
# ("prepare", "infer").
Observer = Callable[[Sequence[Examination], Mapping[str, float]], None]


@dataclass(frozen=True)
class Model:
    """A published model that is ready to answer; several threads may ask it at once.

        >>> from brainscan import open_model
        >>> model = open_model("instance/models/mobilenet-v2")
        >>> for examination in model.examine(["static/samples/"]):
        ...     print(examination.name, examination.label, examination.tumor)
        slice-1.webp meningioma True
        slice-2.webp notumor False
        slice-3.webp glioma True
        slice-4.webp notumor False

    Attributes:
        card: what is known of it.
        engine: runs its graph.
        observe: is called after each batch.
    """

    card: Card
    engine: Engine
    observe: Observer | None = None

    def examine(
        self,
        paths: Iterable[str | Path],
        *,
        refused: Callable[[ScanError], None] | None = None,
        max_pixels: int = MAX_PIXELS,
    ) -> Iterator[Examination]:
        """Examine files, and the images in and below folders, one after another.

        Args:
            paths: of files and folders.
            refused: takes the problem of a file that cannot be read as a scan, and the others go
                on; without it the first one is raised.
            max_pixels: the largest width × height accepted.

        Raises:
            ScanError: a file is not a scan; `str()` of it names the file and the reason.
            OSError: a file cannot be read from the disk.
        """
        for path in find_images(map(Path, paths)).images:
            file = ImageFile(path.name, path.read_bytes())
            try:
                reading = self.read(file, max_pixels=max_pixels, keep_picture=True)
            except ScanError as error:
                if refused is None:
                    raise
                refused(error)
            else:
                yield from self.conclude([reading])

    def read(
        self, file: ImageFile, *, max_pixels: int = MAX_PIXELS, keep_picture: bool = False
    ) -> Reading:
        """Decode and prepare a file.

        Args:
            file: its name and bytes.
            max_pixels: the largest width × height accepted.
            keep_picture: whether the picture is kept; many large ones fill the memory.

        Raises:
            ScanError: the file is not a scan.
        """
        start = perf_counter()
        try:
            picture = read_picture(file.data, max_pixels=max_pixels)
        except ScanError as error:
            raise error.about(file.name) from error
        return self.prepare(file.name, picture, keep_picture=keep_picture, start=start)

    def prepare(
        self, name: str, picture: Picture, *, keep_picture: bool = True, start: float | None = None
    ) -> Reading:
        """Prepare a picture that was read already, which another model may share.

        Args:
            name: of its file.
            picture: as `read_picture` gives it.
            keep_picture: as in `read`.
            start: when its reading began, by `time.perf_counter`.
        """
        start = perf_counter() if start is None else start
        scan = prepare_scan(picture, self.card.scan)
        warnings = list(picture.warnings)
        if not scan.found_head:
            warnings.append(Message("no-head-outline"))
        if not picture.resembles_scan:
            warnings.append(Message("not-a-scan"))
        kept = picture if keep_picture else None
        return Reading(name, scan, kept, tuple(warnings), perf_counter() - start)

    def conclude(
        self, readings: Sequence[Reading], *, want_heatmaps: bool = False
    ) -> list[Examination]:
        """Say what the model sees in scans, all of them together.

        Args:
            readings: of this model, at least one.
            want_heatmaps: whether it is worth a warning that the model gives none.
        """
        if not readings:
            return []
        start = perf_counter()
        outputs = self.engine.predict(np.stack([reading.scan.pixels for reading in readings]))
        seconds = {
            "prepare": sum(reading.seconds for reading in readings),
            "infer": perf_counter() - start,
        }
        heats = [None] * len(readings) if outputs.heatmaps is None else outputs.heatmaps
        found = [
            self._examine(reading, probabilities, heat, want_heatmap=want_heatmaps)
            for reading, probabilities, heat in zip(
                readings, outputs.probabilities, heats, strict=True
            )
        ]
        if self.observe is not None:
            self.observe(found, seconds)
        return found

    def examine_each(
        self, files: Sequence[ImageFile], *, max_pixels: int = MAX_PIXELS
    ) -> list[Examination | ScanError]:
        """Examine files together; in the place of one that is not a scan is its problem."""
        found: list[Reading | ScanError] = []
        for file in files:
            try:
                found.append(self.read(file, max_pixels=max_pixels))
            except ScanError as error:
                found.append(error)
        concluded = iter(self.conclude([one for one in found if isinstance(one, Reading)]))
        return [next(concluded) if isinstance(one, Reading) else one for one in found]

    def _examine(
        self,
        reading: Reading,
        probabilities: NDArray[np.float32],
        heat: NDArray[np.float32] | None,
        *,
        want_heatmap: bool,
    ) -> Examination:
        shares = [round(float(share), 6) for share in probabilities]
        warnings = list(reading.warnings)
        if want_heatmap and heat is None:
            warnings.append(Message("no-heatmap"))
        if max(shares) < UNCERTAIN_BELOW:
            values = {"confidence": max(shares), "limit": UNCERTAIN_BELOW}
            warnings.append(Message("uncertain", values))
        return Examination(
            reading,
            self.card,
            self.engine.precision,
            dict(zip(self.card.classes, shares, strict=True)),
            heat,
            tuple(warnings),
        )


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
    return Model(card, engine, observe)
