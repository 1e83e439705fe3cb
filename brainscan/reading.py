"""A file, as it was received and as a model reads it."""

import hashlib
from dataclasses import dataclass, field

from brainscan.messages import Message
from brainscan.scan import Picture, PreparedScan
from brainscan.scan.facts import Facts
from brainscan.scan.volume import Place


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
