"""The file that holds a job's images, and the lock for writing or reading it."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from brainscan.files import lock

_IMAGES, _LOCK = ".upload", ".lock"


def find_images(folder: Path, job: str) -> Path:
    """Give the path of a job's images."""
    return folder / f"{job}{_IMAGES}"


def list_jobs(folder: Path) -> set[str]:
    """List the ids of which there is a file: of jobs and arriving uploads, or left by a crash."""
    return {path.stem for path in folder.glob("*.*") if path.suffix in (_IMAGES, _LOCK)}


@contextmanager
def hold(folder: Path, job: str, *, wait: bool = False) -> Iterator[None]:
    """Hold a job, so that no other thread or process does; its lock file goes at the end.

    Raises:
        LockedError: another holds it, and `wait` is False.
        OSError: the folder cannot be written.
    """
    path = folder / f"{job}{_LOCK}"
    with lock(path, wait=wait):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def create_images(folder: Path) -> Iterator[tuple[str, BinaryIO]]:
    """Create the file of a new job, and hold the job; the file goes where an exception passes.

    Returns:
        The job's id, and the file to write.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    job = secrets.token_urlsafe(16)
    path = find_images(folder, job)
    with hold(folder, job, wait=True):  # a sweep may hold it the moment its lock file appears
        try:
            with open(path, "x+b", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                yield job, file
        except BaseException:
            path.unlink(missing_ok=True)
            raise
