"""The file of a job: written under a name of our own, and held by whoever works on it.

A worker that dies lets go of its lock: the kernel frees it, so that no other has to guess.
"""

import fcntl
import os
import secrets
import time
from collections.abc import Container, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_ENDING = ".upload"
_SECONDS_OF_GRACE = 60  # between a file's creation and its lock


def find_file(folder: Path, job: str) -> Path:
    """Give the path of a job's file."""
    return folder / f"{job}{_ENDING}"


@contextmanager
def create_file(folder: Path) -> Iterator[tuple[str, BinaryIO]]:
    """Make the file of a new job, and hold it; it is removed where an exception passes.

    Returns:
        The job's id, and the file to write.
    """
    job = secrets.token_urlsafe(16)
    path = find_file(folder, job)
    with open(path, "x+b", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield job, file
        except BaseException:
            path.unlink(missing_ok=True)
            raise


@contextmanager
def hold_file(path: Path) -> Iterator[BinaryIO | None]:
    """Open a job's file so that no other does; None where another holds it, or none can."""
    try:
        file = path.open("rb")
    except OSError:  # mostly because it is gone
        yield None
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield None
        else:
            yield file


def remove_strays(folder: Path, wanted: Container[str]) -> None:
    """Remove the files of jobs that ended, and of uploads whose worker died."""
    for path in folder.glob(f"*{_ENDING}"):
        if path.name.removesuffix(_ENDING) in wanted:
            continue
        with hold_file(path) as file:
            if file is None:
                continue
            if time.time() - os.fstat(file.fileno()).st_mtime > _SECONDS_OF_GRACE:
                path.unlink(missing_ok=True)
