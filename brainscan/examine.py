"""The story of a prediction: a file → its picture → a prepared scan → what the model says.

An examination happens once; every answer serialises it.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from brainscan.bundle import BundleError, Card, read_bundle, survey_bundles
from brainscan.bundle.store import CARD_FILE
from brainscan.engine import Engine, EngineError, OpenBundle, Outputs, choose_engine
from brainscan.familiarity import FAMILIARITY_FILE, Familiarity
from brainscan.heatmap import render_heatmap
from brainscan.lesion import Lesion, find_lesion, measure_head
from brainscan.messages import Message, ScanError
from brainscan.scan import MAX_PIXELS, Picture, PreparedScan, prepare_scan, read_picture
from brainscan.scan.crop import trace_head
from brainscan.scan.facts import Facts
from brainscan.scan.folders import find_images
from brainscan.scan.formats import read_slices
from brainscan.scan.volume import Place
from brainscan.verdict import Judged, Judgement, judge, sure_from

if TYPE_CHECKING:
    from brainscan.series import Answer


@dataclass(frozen=True)
class ImageFile:
    """A file as it was received: the name its sender gave it, and its bytes."""

    name: str
    data: bytes

    @property
    def sha256(self) -> str:
        """The SHA-256 of the bytes, in hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True, eq=False)
class Reading:
    """A file that was read and prepared for a model.

    Attributes:
        name: the file's.
        scan: as the model takes it.
        picture: what the scan was made of; None where it was not kept, or came prepared.
        warnings: what a reader of the prediction should know of the file.
        seconds: that it took.
        resembles_scan: what the picture says; True where it came prepared.
        head: the share of the picture within the head's outline, 0 to 1; None where it came
            prepared, and of a model without a lesion map.
        sha256: of the file, in hexadecimal; None of a picture that is not a file's.
        place: where it lies in its series; None where it was read as a picture of its own.
        header: what the header of a DICOM or NIfTI file says (`brainscan.scan.facts`).
    """

    name: str
    scan: PreparedScan
    picture: Picture | None = None
    warnings: tuple[Message, ...] = ()
    seconds: float = 0.0
    resembles_scan: bool = True
    head: float | None = None
    sha256: str | None = None
    place: Place | None = None
    header: Facts = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Examination(Judged):
    """What a model says of one file, and all that led to it.

    Attributes:
        reading: the file's.
        card: the model's.
        precision: of the graph that answered: "fp16", "int8" or "keras".
        probabilities: of every class, in the model's order, 0 to 1, summing to 1.
        heat: float32, shape (rows, columns), 0 to 1, of the part of the scan that the model saw:
            what spoke for the most probable class; None for a model without convolutions, and for
            one with a lesion map.
        warnings: what a reader should know.
        lesion_map: float32, shape (rows, columns), 0 to 1, of the same part: where a tumour is;
            None for a model that was not taught that.
        distance: from the scans that the model knows; None where it cannot tell.
    """

    reading: Reading
    card: Card
    precision: str
    probabilities: Mapping[str, float]
    heat: NDArray[np.float32] | None
    warnings: tuple[Message, ...]
    lesion_map: NDArray[np.float32] | None = None
    distance: float | None = None

    @property
    def name(self) -> str:
        """The file's name."""
        return self.reading.name

    @property
    def sha256(self) -> str | None:
        """The SHA-256 of the file, in hexadecimal; None of a picture that is not a file's."""
        return self.reading.sha256

    @property
    def header(self) -> Facts:
        """What the header of a DICOM or NIfTI file says; nothing of other formats."""
        return self.reading.header

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

    def with_picture(self, picture: Picture) -> "Examination":
        """Give the same with another picture in its place, such as a smaller copy of it."""
        return replace(self, reading=replace(self.reading, picture=picture))

    @cached_property
    def judgement(self) -> Judgement:
        """What the probabilities come to."""
        return judge(
            self.card,
            self.probabilities,
            resembles_scan=self.reading.resembles_scan,
            distance=self.distance,
        )

    @cached_property
    def lesion(self) -> Lesion | None:
        """The region that the model marks; None where it marks none, or cannot."""
        limits = self.card.decision.lesion if self.card.decision else None
        if limits is None or self.lesion_map is None:
            return None
        if self.verdict in ("no-tumor", "not-recognised"):
            return None
        head = self.reading.head or measure_head(trace_head(self.scan.pixels[..., 0]))
        return find_lesion(self.lesion_map, limits, self.scan, head)

    @property
    def heatmap(self) -> bytes | None:
        """A PNG to lay over the picture; None where there is none that is to be relied on.

        Of a lesion map where it marks a region; of another heat map where that was measured to
        beat the centre of the head; of a picture that is not recognised, none.
        """
        if self.verdict == "not-recognised":
            return None
        shown = self.lesion is not None or (self.lesion_map is None and self.card.has_reliable_map)
        return self.drawn_map if shown else None

    @cached_property
    def drawn_map(self) -> bytes | None:
        """The same PNG of whatever map the model gives, to be shown with its figures only."""
        values = self.heat if self.lesion_map is None else self.lesion_map
        return None if values is None else render_heatmap(values, self.scan.box, self.scan.whole)


# Takes the answers to files that were examined together, and the seconds of each stage
# ("prepare", "infer").
Observer = Callable[[Sequence["Answer"], Mapping[str, float]], None]


@dataclass(frozen=True)
class Model:
    """A published model that is ready to answer; several threads may ask it at once.

        >>> from brainscan import open_model
        >>> model = open_model("instance/models/lesion-lite0")
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
        familiarity: what the scans that it knows look like; None where its card has no refusal.
        folder: of its bundle, where it was opened from one.
    """

    card: Card
    engine: Engine
    observe: Observer | None = None
    familiarity: Familiarity | None = None
    folder: Path | None = None

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
                found = self.examine_one(file, max_pixels=max_pixels)
            except ScanError as error:
                if refused is None:
                    raise
                refused(error)
            else:
                yield found

    def examine_one(
        self,
        file: ImageFile,
        *,
        max_pixels: int = MAX_PIXELS,
        frame: int | None = None,
        want_heatmap: bool = False,
    ) -> Examination:
        """Examine a picture, or one slice of a volume; the picture is kept. See `read`."""
        reading = self.read(file, max_pixels=max_pixels, keep_picture=True, frame=frame)
        return self.conclude([reading], want_heatmaps=want_heatmap)[0]

    def read(
        self,
        file: ImageFile,
        *,
        max_pixels: int = MAX_PIXELS,
        keep_picture: bool = False,
        frame: int | None = None,
    ) -> Reading:
        """Decode and prepare a file; of a volume, one slice.

        Args:
            file: its name and bytes.
            max_pixels: the largest width × height accepted.
            keep_picture: whether the picture is kept; many large ones fill the memory.
            frame: the index of the slice in the file; None for the one in the middle.

        Raises:
            ScanError: the file is not a scan.
        """
        start = perf_counter()
        try:
            picture = read_picture(file.data, max_pixels=max_pixels, frame=frame)
        except ScanError as error:
            raise error.about(file.name) from error
        reading = self.prepare(file.name, picture, sha256=file.sha256, start=start)
        return reading if keep_picture else replace(reading, picture=None)

    def read_slices(
        self, file: ImageFile, *, max_pixels: int = MAX_PIXELS, longest_kept: int = 0
    ) -> Iterator[Reading | ScanError]:
        """Decode and prepare the slices of a file: as many as a volume has, else its picture.

        Args:
            file: its name and bytes.
            max_pixels: the largest width × height accepted.
            longest_kept: the longest side of the pictures that are kept; 0 for none.

        Yields:
            A damaged slice of a volume as its problem.

        Raises:
            ScanError: the file is not a scan.
        """
        start, sha256 = perf_counter(), file.sha256
        try:
            for found, place in read_slices(file.data, max_pixels=max_pixels):
                if isinstance(found, ScanError):
                    yield found.about(file.name)
                    continue
                reading = self.prepare(file.name, found, sha256=sha256, start=start)
                picture = found.shrink(longest_kept) if longest_kept else None
                yield replace(reading, picture=picture, place=place)
                start = perf_counter()
        except ScanError as error:
            raise error.about(file.name) from error

    def prepare(
        self,
        name: str,
        picture: Picture,
        *,
        sha256: str | None = None,
        start: float | None = None,
    ) -> Reading:
        """Prepare a picture that was read already, which another model may share.

        Args:
            name: of its file.
            picture: as `read_picture` gives it.
            sha256: of that file, in hexadecimal.
            start: when its reading began, by `time.perf_counter`.
        """
        start = perf_counter() if start is None else start
        scan = prepare_scan(picture, self.card.scan)
        warnings = list(picture.warnings)
        if not scan.found_head:
            warnings.append(Message("no-head-outline"))
        resembles = picture.resembles_scan
        head = measure_head(picture.outline) if self.card.has_lesion_map else None
        return Reading(
            name,
            scan,
            picture,
            tuple(warnings),
            perf_counter() - start,
            resembles,
            head,
            sha256,
            header=picture.facts,
        )

    def conclude(
        self, readings: Sequence[Reading], *, want_heatmaps: bool = False
    ) -> list[Examination]:
        """Say what the model sees in scans, all of them together.

        Args:
            readings: of this model, at least one.
            want_heatmaps: whether it is worth a warning that the model gives none.
        """
        start = perf_counter()
        outputs = self.engine.predict(np.stack([reading.scan.pixels for reading in readings]))
        seconds = {
            "prepare": sum(reading.seconds for reading in readings),
            "infer": perf_counter() - start,
        }
        distances = self._measure_distances(outputs)
        found = [
            self._examine(
                reading,
                outputs.probabilities[i],
                None if outputs.heatmaps is None else outputs.heatmaps[i],
                None if outputs.lesions is None else outputs.lesions[i],
                None if distances is None else float(distances[i]),
                want_heatmap=want_heatmaps,
            )
            for i, reading in enumerate(readings)
        ]
        if self.observe is not None:
            self.observe(found, seconds)
        return found

    def _measure_distances(self, outputs: Outputs) -> NDArray[np.float32] | None:
        if self.familiarity is None or outputs.features is None:
            return None
        return self.familiarity.measure(outputs.features)

    def _examine(
        self,
        reading: Reading,
        probabilities: NDArray[np.float32],
        heat: NDArray[np.float32] | None,
        lesion_map: NDArray[np.float32] | None,
        distance: float | None,
        *,
        want_heatmap: bool,
    ) -> Examination:
        shares = [round(float(share), 6) for share in probabilities]
        found = Examination(
            reading,
            self.card,
            self.engine.precision,
            dict(zip(self.card.classes, shares, strict=True)),
            heat,
            reading.warnings,
            lesion_map,
            distance,
        )
        warnings = warn_of_verdict(found)
        if want_heatmap and heat is None and lesion_map is None:
            warnings.append(Message("no-heatmap"))
        elif want_heatmap and not self.card.has_reliable_map:
            warnings.append(Message("no-reliable-map"))
        return replace(found, warnings=(*reading.warnings, *warnings))


def warn_of_verdict(found: "Answer") -> list[Message]:
    """Say what a verdict leaves open."""
    if found.verdict == "unclear":
        return [Message("tumor-unclear", {"probability": found.tumor_probability})]
    if found.verdict == "tumor-kind-unclear":
        return [Message("kind-unclear", {"kinds": found.possible})]
    warnings = []
    if found.verdict == "not-recognised":
        warnings.append(Message("not-a-scan"))
    if found.judgement.unsure:
        values = {"confidence": found.confidence, "limit": sure_from(found.card)}
        warnings.append(Message("uncertain", values))
    return warnings


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
