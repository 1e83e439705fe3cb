"""A model that is ready to answer: file → reading → examination."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from brainscan.bundle import Card
from brainscan.engine import Engine, Outputs
from brainscan.examination import Answer, Examination, warn_of_verdict
from brainscan.familiarity import Familiarity
from brainscan.lesion import measure_head
from brainscan.messages import Message, ScanError
from brainscan.reading import ImageFile, Reading
from brainscan.scan import MAX_PIXELS, Picture, prepare_scan, read_picture
from brainscan.scan.folders import find_images
from brainscan.scan.formats import read_slices

# Takes the answers to files that were examined together, and the seconds of each stage
# ("prepare", "infer").
Observer = Callable[[Sequence[Answer], Mapping[str, float]], None]


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
        for path in find_images(map(Path, paths)):
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
