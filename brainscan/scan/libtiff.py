"""What libtiff says while Pillow decodes with it: heard here, instead of written to standard error.

libtiff decodes on after many a fault, such as a row of a fax that is too short, and only says so:
a line to standard error for each, which may be a hundred megabytes for a small file.
"""

import ctypes
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import _imaging

_LONGEST_TEXT = 200
# Of warnings, these tell of the picture; the others, of unknown tags and the like.
_DECODERS = (b"Fax", b"JPEGLib")
_HARMLESS = b"Try to decode"  # rows without the mark at their ends, which some leave out

# Pillow's own copy: a symbol is searched in the libraries that its extension was linked with.
_library = ctypes.CDLL(_imaging.__file__)
_write = ctypes.CDLL(None).vsnprintf
_Handler = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_void_p)
_Extender = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_here = threading.local()
# Pillow turns warnings off for the whole process as it begins to decode: what another thread began
# would not be heard.
_decoding = threading.Lock()


@contextmanager
def listen() -> Iterator[list[str]]:
    """Give a list that takes the first fault that libtiff finds in what this thread decodes.

    One thread listens at a time.
    """
    with _decoding:
        _here.faults = faults = list[str]()
        try:
            yield faults
        finally:
            del _here.faults


def _hear_error(_: bytes | None, text: bytes, values: int | None) -> None:
    faults: list[str] | None = getattr(_here, "faults", None)
    if faults is not None and not faults:
        written = ctypes.create_string_buffer(_LONGEST_TEXT)
        _write(written, _LONGEST_TEXT, text, ctypes.c_void_p(values))
        faults.append(written.value.decode("ascii", "replace"))


def _hear_warning(module: bytes | None, text: bytes, values: int | None) -> None:
    if module is not None and module.startswith(_DECODERS) and not text.startswith(_HARMLESS):
        _hear_error(module, text, values)


def _hear_warnings(_: int | None) -> None:
    _library.TIFFSetWarningHandler(_on_warning)


# Kept for as long as libtiff may call them.
_on_error, _on_warning, _on_opening = (
    _Handler(_hear_error),
    _Handler(_hear_warning),
    _Extender(_hear_warnings),
)
_library.TIFFSetErrorHandler(_on_error)
# What extends libtiff's tags is called as the file is opened, after Pillow turned warnings off.
_library.TIFFSetTagExtender(_on_opening)
