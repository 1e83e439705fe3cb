"""The story of a job: hold its file, predict batch by batch, store each, erase the file."""

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tumorapp.api.schemas import PredictionSchema
from tumorapp.catalog import Catalog, LoadedModel
from tumorapp.errors import ProblemError, UnreadableScanError
from tumorapp.inference import Upload, predict_scans
from tumorapp.jobs.archive import Limits
from tumorapp.jobs.files import find_file, hold_file, remove_strays
from tumorapp.jobs.material import MaterialReader
from tumorapp.jobs.store import UNFINISHED, Job, Outcome, Scan, Store

logger = logging.getLogger(__name__)

# Small: a request that arrives meanwhile waits for one batch at most.
BATCH = 2
# A job's next scan is given up where so many workers have died with it, some of them alone with it.
MOST_STARTS = 3
# Ended jobs beyond this number are erased before their time, the oldest first.
MOST_KEPT = 1000

_OUTCOME = PredictionSchema(exclude=("heatmap",))


@dataclass(frozen=True)
class Runner:
    """Runs jobs, in whichever worker finds them.

    Attributes:
        folder: of the jobs' files.
        max_pixels: of one image.
        hours: how long a job is kept after its end.
        stopping: set when this worker ends; a job is then released after its current batch.
    """

    folder: Path
    store: Store
    catalog: Catalog
    limits: Limits
    max_pixels: int
    hours: int
    stopping: threading.Event

    def run(self, job_id: str) -> None:
        """Run a job to its end, from where another left it; nothing where that is not needed."""
        path = find_file(self.folder, job_id)
        with hold_file(path) as file:
            job = self.store.find(job_id)
            if file is None or job is None or job.state not in UNFINISHED:
                return  # another has it, or had it
            try:
                model = self.catalog.get(job.model)
                reader = MaterialReader(file, archive=job.archive, limits=self.limits)
                self.store.begin(job_id, str(model.card.version))
                ended = self._predict(job, model, reader)
            except ProblemError as error:
                self.store.finish(job_id, error.detail)
            else:
                if not ended:
                    return
                self.store.finish(job_id)
            path.unlink(missing_ok=True)

    def _predict(self, job: Job, model: LoadedModel, reader: MaterialReader) -> bool:
        """Predict what is left of a job; False where it was cancelled or released."""
        if job.starts >= MOST_STARTS:
            logger.error("A scan of a job is given up: %d workers have died with it.", job.starts)
            for number, scan in self.store.next_scans(job.id, 1).items():  # none, if all are done
                reason = f"{scan.name}: It could not be predicted: the service stopped at each try."
                self.store.save(job.id, {number: _refuse(scan.name, reason)})
        batch = 1 if job.starts else BATCH
        while scans := self.store.next_scans(job.id, batch):
            start = time.monotonic()
            if not self.store.save(job.id, self._predict_batch(model, reader, scans)):
                return False
            # As long again as it took: those who wait for an answer at once have half the time.
            if self.stopping.wait(time.monotonic() - start):
                self.store.release(job.id)
                return False
        return True

    def _predict_batch(
        self, model: LoadedModel, reader: MaterialReader, scans: Mapping[int, Scan]
    ) -> dict[int, Outcome]:
        outcomes: dict[int, Outcome] = {}
        uploads: dict[int, Upload] = {}
        for number, scan in scans.items():
            try:
                uploads[number] = reader.read(scan)
            except UnreadableScanError as error:
                outcomes[number] = _refuse(scan.name, error.detail)
        if uploads:
            found = self._predict_uploads(model, list(uploads.values()))
            outcomes |= dict(zip(uploads, found, strict=True))
        return outcomes

    def _predict_uploads(self, model: LoadedModel, uploads: Sequence[Upload]) -> list[Outcome]:
        """Predict scans together; where one of them is bad, each alone."""
        try:
            found = predict_scans(model, uploads, heatmap=False, max_pixels=self.max_pixels)
        except Exception as error:
            if len(uploads) > 1:
                return [
                    outcome
                    for upload in uploads
                    for outcome in self._predict_uploads(model, [upload])
                ]
            name = uploads[0].filename
            if isinstance(error, ProblemError):
                return [_refuse(name, error.detail)]
            logger.exception("A scan of a job could not be predicted.")
            return [_refuse(name, f"{name}: Something went wrong here. It has been logged.")]
        return [_OUTCOME.dump(prediction) for prediction in found]

    def sweep(self) -> list[str]:
        """Erase what has been kept long enough; gives the jobs that are not done, oldest first."""
        self.store.erase_old(time.time() - self.hours * 3600, MOST_KEPT)
        unfinished = self.store.list_ids(*UNFINISHED)
        remove_strays(self.folder, set(unfinished))
        return unfinished


def _refuse(name: str, reason: str) -> Outcome:
    return {"filename": name, "error": reason}
