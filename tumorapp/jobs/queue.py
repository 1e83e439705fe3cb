"""The queue of the jobs: huey on SQLite, and its consumer in a thread of each worker.

huey forgets a task when it hands it out, and the jobs' own store does not: what a dead worker left
is put into the queue again when a worker starts, and every minute. A job that stands there twice
runs once, for its file is held by one.
"""

import json
import logging
from pathlib import Path
from typing import Any

from huey import SqliteHuey, crontab
from huey.consumer import Consumer
from huey.registry import Message
from huey.serializer import Serializer

from tumorapp.jobs.runner import Runner

_LONGEST_LOOK = 0.5  # seconds between two looks into an empty queue
_SECONDS_TO_STOP = 10


class _JSONSerializer(Serializer):  # type: ignore[misc]  # huey ships no types
    """Tasks as JSON: huey's pickles would run whatever somebody put into the file."""

    def _serialize(self, data: Any) -> bytes:
        return json.dumps(data).encode()

    def _deserialize(self, data: bytes) -> Any:
        return Message(*json.loads(data))


class _ThreadConsumer(Consumer):  # type: ignore[misc]  # huey ships no types
    """A consumer that leaves the signals to gunicorn."""

    def _set_signal_handlers(self) -> None:
        pass


class Queue:
    """A queue in a file, which is made where there is none, and the thread that works it off."""

    def __init__(self, file: Path, runner: Runner) -> None:
        # Its log of every task would name the jobs, and who knows a job's id may read it.
        logging.getLogger("huey").setLevel(logging.WARNING)
        file.touch(mode=0o600)
        self._runner = runner
        self._huey = SqliteHuey(
            "jobs", results=False, serializer=_JSONSerializer(), filename=str(file), cache_mb=1
        )
        self._run = self._huey.task(name="run")(runner.run)
        self._huey.periodic_task(crontab(), name="sweep")(self.sweep)
        self._consumer = _ThreadConsumer(
            self._huey,
            max_delay=_LONGEST_LOOK,
            scheduler_interval=60,  # nothing but the sweep is planned
            shutdown_timeout=_SECONDS_TO_STOP,
        )

    def start(self) -> None:
        """Work off the jobs, beginning with what others have left."""
        self.sweep()
        self._consumer.start()

    def put(self, job: str) -> None:
        """Put a job at the end."""
        self._run(job)

    def sweep(self) -> None:
        """Erase what is old, and put in again what is neither done nor in the queue."""
        waiting = {task.args[0] for task in self._huey.pending() if task.args}
        for job in self._runner.sweep():
            if job not in waiting:
                self.put(job)

    def stop(self) -> None:
        """Release the job that runs after its batch, and end the threads."""
        self._runner.stopping.set()
        self._consumer.stop(graceful=True)
        self._huey.storage.close()
