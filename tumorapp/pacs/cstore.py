"""C-STORE: a destination that keeps what it is sent until it is answered, and a sender."""

import logging
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.association import Association
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

from brainscan import Problem
from brainscan.files import write_bytes
from tumorapp.pacs.worker import Series, Study, hash_uid

_SECONDS = 30.0  # to connect, and for an answer
_SUCCESS, _NO_ROOM, _NOT_UNDERSTOOD = 0x0000, 0xA700, 0xC000
# Stored, with a change or not; or there already.
_STORED = (_SUCCESS, 0xB000, 0xB006, 0xB007, 0x0111)
_GROUPED_BY = ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"]


@dataclass(frozen=True)
class Spool:
    """The files that were received, in a folder for each study, until they are answered.

    Attributes:
        folder: holds those folders, for its owner alone.
        quiet: the seconds without a new file after which a study is taken to be complete.
    """

    folder: Path
    quiet: float

    def keep(self, data: bytes) -> None:
        """Keep a file; it is on the disk when this returns.

        Raises:
            OSError: it cannot be written.
            AttributeError, InvalidDicomError: its header does not say what it belongs to.
        """
        header = dcmread(BytesIO(data), stop_before_pixels=True, specific_tags=_GROUPED_BY)
        folder = self.folder / hash_uid(header.StudyInstanceUID)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_bytes(folder / f"{hash_uid(header.SOPInstanceUID)}.dcm", data, mode=0o600)

    def find(self, _: str) -> Iterator[Study]:
        """See `Source`."""
        for folder in sorted(self.folder.glob("*/")):
            files = sorted(folder.glob("*.dcm"))
            newest = max((file.stat().st_mtime for file in files), default=0.0)
            if files and newest + self.quiet <= time.time():
                list_series = partial(_list_series, files)
                yield Study(folder.name, list_series, partial(_erase, files))


def _list_series(files: Sequence[Path]) -> list[Series]:
    groups: dict[str, list[Path]] = {}
    for file in files:
        header = dcmread(file, stop_before_pixels=True, specific_tags=_GROUPED_BY)
        groups.setdefault(hash_uid(str(header.get("SeriesInstanceUID"))), []).append(file)
    # What is not MR is refused file by file.
    return [Series(key, "MR", partial(_read, group)) for key, group in sorted(groups.items())]


def _read(files: Sequence[Path]) -> list[bytes]:
    return [file.read_bytes() for file in files]


def _erase(files: Sequence[Path]) -> None:
    for file in files:
        file.unlink()
    with suppress(OSError):  # another file came meanwhile
        files[0].parent.rmdir()


@contextmanager
def listen(spool: Spool, title: str, host: str, port: int) -> Iterator[None]:
    """Receive what others send (C-STORE) and answer C-ECHO, in threads.

    Raises:
        ValueError: the address cannot be used.
    """
    for half in spool.folder.glob("*/.*"):  # what a process that was killed was writing
        half.unlink()
    entity = AE(ae_title=title)
    entity.add_supported_context(Verification)
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(context.abstract_syntax or "", ALL_TRANSFER_SYNTAXES)
    handlers: list[Any] = [(evt.EVT_C_STORE, _receive, [spool])]
    try:
        entity.start_server((host, port), block=False, evt_handlers=handlers)
    except OSError as error:
        reason = f"{host}:{port} cannot be listened at: {error.strerror}."
        raise ValueError(f"{reason} Choose another address or port.") from error
    try:
        yield
    finally:
        entity.shutdown()


def _receive(event: evt.Event, spool: Spool) -> int:
    try:
        spool.keep(event.encoded_dataset())
    except OSError as error:
        logging.getLogger(__name__).error("A file cannot be kept: %s", error.strerror)
        return _NO_ROOM
    except (AttributeError, InvalidDicomError, ValueError):
        return _NOT_UNDERSTOOD
    return _SUCCESS


@dataclass(frozen=True)
class Destination:
    """A PACS that objects are sent to.

    Attributes:
        title: its AE title.
        host: its name or address.
        port: its port.
        own_title: the AE title of the sender.
    """

    title: str
    host: str
    port: int
    own_title: str

    @classmethod
    def read(cls, text: str, own_title: str) -> "Destination":
        """Read AET@HOST:PORT; raises ValueError."""
        found = re.fullmatch(r"([^@\\]{1,16})@(.+):(\d{1,5})", text)
        if found is None:
            raise ValueError(f"{text!r} is not accepted. Give AET@HOST:PORT.")
        return cls(found[1], found[2], int(found[3]), own_title)

    def store(self, objects: Sequence[Dataset]) -> None:
        """Send objects.

        Raises:
            Problem: it does not answer, or refuses one of them.
        """
        entity = AE(ae_title=self.own_title)
        entity.acse_timeout = entity.dimse_timeout = entity.connection_timeout = _SECONDS
        for one in objects:
            entity.add_requested_context(one.SOPClassUID, one.file_meta.TransferSyntaxUID)
        association = entity.associate(self.host, self.port, ae_title=self.title)
        if not association.is_established:
            raise Problem("pacs-no-answer", reason="no association")
        statuses = [_send(association, one) for one in objects]
        association.release()
        if refused := [status for status in statuses if status not in _STORED]:
            reason = f"{refused[0]:#06x}" if refused[0] else "no answer"
            raise Problem(
                "store-refused", refused=len(refused), objects=len(objects), reason=reason
            )


def _send(association: Association, one: Dataset) -> int | None:
    """Send an object; gives the status that answers it, None where none does."""
    accepted = {context.abstract_syntax for context in association.accepted_contexts}
    if not association.is_established or one.SOPClassUID not in accepted:
        return None
    status: int | None = association.send_c_store(one).get("Status")
    return status


@dataclass(frozen=True)
class Folder:
    """A folder that objects are written to, under names that say nothing of them.

    Attributes:
        path: it; made where there is none.
    """

    path: Path

    def store(self, objects: Sequence[Dataset]) -> None:
        """Write objects; what is made again takes the place of what is there.

        Raises:
            Problem: they cannot be written.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for one in objects:
                written = BytesIO()
                dcmwrite(written, one)
                name = f"{hash_uid(one.SOPInstanceUID)}-{one.Modality}.dcm"
                write_bytes(self.path / name, written.getvalue(), mode=0o600)
        except OSError as error:
            count, reason = len(objects), error.strerror or "no room"
            raise Problem("store-refused", refused=count, objects=count, reason=reason) from error
