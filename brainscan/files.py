"""Locks and atomic writes, the same way for everything that is written.

A lock ends with the process that holds it, however it ends. A reader finds the old file or folder
or the complete new one, after a power cut too.
"""

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path

from filelock import FileLock, Timeout


class LockedError(RuntimeError):
    """Another process holds the lock."""


@contextmanager
def lock(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold a lock file, which is made where there is none and stays.

    Args:
        path: the lock file; its folder exists.
        wait: whether to wait while another process holds it.

    Raises:
        LockedError: another process holds it, and `wait` is False.
        OSError: the file cannot be made.
    """
    try:
        with FileLock(path, timeout=-1 if wait else 0, fallback_to_soft=False):
            _give_to_owner(path, path.parent)
            yield
    except Timeout:
        raise LockedError(f"{path} is held by another process.") from None


def open_file(path: Path) -> BufferedReader:
    """Open a regular file to read its bytes.

    A pipe would keep its reader waiting for ever, and a device may never end.

    Raises:
        OSError: it cannot be opened, or is a folder, a pipe, a device or a socket.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_file(path: Path) -> bytes:
    """Read a regular file whole; raises OSError as `open_file` does."""
    with open_file(path) as file:
        return file.read()


def write_text(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Replace a file by a text in UTF-8, line ends as they are, as `write_bytes` does."""
    write_bytes(path, text.encode(), mode=mode)


def write_bytes(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Replace a file as a whole; root leaves it to the owner that it or its folder has.

    Args:
        path: the file; its folder exists.
        data: what it will hold.
        mode: permissions of the file.

    Raises:
        OSError: the disk is full or the folder cannot be written; the file is as it was.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    staging = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        _give_to_owner(staging, path if path.exists() else path.parent)
        staging.replace(path)
        flush(path.parent)
    finally:
        staging.unlink(missing_ok=True)


@contextmanager
def staging_folder(target: Path, prefix: str) -> Iterator[Path]:
    """Make a hidden folder next to `target` to fill before `move_into_place`.

    What is still in it at the end is deleted; what a killed process left, `sweep` deletes.

    Raises:
        OSError: the folder cannot be made. What `shutil.copytree` raises is told in one sentence,
            as the paths in its list are gone by then.
    """
    staging = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    try:
        staging.chmod(0o755)
        yield staging
    except shutil.Error as error:
        reasons = dict.fromkeys(reason.partition(": '")[0] for _, _, reason in error.args[0])
        raise OSError("; ".join(reasons)) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def move_into_place(staging: Path, target: Path) -> None:
    """Flush a folder to the disk and give it its name; raises OSError where that is taken."""
    for path in (*staging.rglob("*"), staging):
        flush(path)
    staging.rename(target)
    flush(target.parent)


def sweep(folder: Path, prefix: str) -> None:
    """Delete the staging folders that killed processes left; hold the writers' lock."""
    for abandoned in folder.glob(f"{prefix}*"):
        shutil.rmtree(abandoned, ignore_errors=True)


def _give_to_owner(path: Path, owned: Path) -> None:
    """Let root's commands make nothing that the user of the service could not read or replace."""
    if os.geteuid() == 0:
        found = owned.stat()
        os.chown(path, found.st_uid, found.st_gid)


def flush(path: Path) -> None:
    """Wait until a file, or the names in a folder, would survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
