"""The stored values of a DICOM frame → a picture, by what the header says of them."""

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from brainscan.scan.facts import read_number
from brainscan.scan.picture import Picture
from brainscan.scan.planes import gather, gather_deep, gather_stored, interpret, split_colours
from brainscan.scan.window import Window, choose_window

# Of the range between the darkest air and the brightest of the head: a window that ends below or
# above leaves the head white or dark, and one that begins there leaves it black or grey.
_LEAST_HIGH, _MOST_HIGH = 0.25, 2.0
_LEAST_LOW, _MOST_LOW = -1.0, 0.5


def interpret_frame(stored: NDArray[Any], header: Dataset) -> Picture:
    """Make a picture of the pixels of a frame.

    Args:
        stored: of any number type, shape (rows, columns), or (rows, columns, 3) with red first.
        header: what the header says of them: photometric interpretation, tables, window, padding.
    """
    photometric = str(header.PhotometricInterpretation)
    bits = int(header.get("BitsStored") or header.BitsAllocated)
    if stored.ndim == 3 or photometric == "PALETTE COLOR":
        return interpret(gather(stored.shape[:2], partial(_read_colours, stored, bits, header)))
    stored = _fill_padding(stored, header)
    modality, voi = header.get("ModalityLUTSequence"), header.get("VOILUTSequence")
    slope, intercept = (1.0, 0.0) if modality else _read_rescale(header)
    stated = _read_window(header)
    if voi:
        stated = Window(0, 2 ** int(voi[0].LUTDescriptor[2]) - 1, 0)
    negative = photometric == "MONOCHROME1"
    if stored.dtype == np.uint8 and not modality and stated is None and slope > 0:
        most = 2 ** min(bits, 8) - 1
        grey = np.minimum(stored, most)
        return interpret(gather_stored(most - grey if negative else grey))
    if stated is not None and negative:
        stated = Window(-stated.high, -stated.low, 0)

    def read(rows: slice) -> tuple[NDArray[Any], None]:
        values = _look_up(stored[rows], modality[0]) if modality else stored[rows]
        values = _rescale(values, slope, intercept)
        if voi:
            values = _look_up(values, voi[0])
        return (_rescale(values, -1, 0) if negative else values), None

    return interpret(gather_deep(stored.shape, read, partial(_choose_window, stated)))


def _read_colours(
    stored: NDArray[Any], bits: int, header: Dataset, rows: slice
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    colours = stored[rows]
    if colours.ndim == 2:
        palette = [f"{name}PaletteColorLookupTable" for name in ("Red", "Green", "Blue")]
        colours = np.stack([_look_up(colours, header, one) for one in palette], axis=-1)
        bits = 8 * colours.itemsize
    return split_colours((colours >> max(0, bits - 8)).astype(np.uint8))


def _fill_padding(stored: NDArray[Any], header: Dataset) -> NDArray[Any]:
    """Give what pads a picture the darkest value of the rest."""
    padding = read_number(header, "PixelPaddingValue")
    if padding is None:
        return stored
    limit = read_number(header, "PixelPaddingRangeLimit")
    least, most = sorted((padding, padding if limit is None else limit))
    pads = (stored >= least) & (stored <= most)
    if not pads.any() or pads.all():
        return stored
    negative = header.PhotometricInterpretation == "MONOCHROME1"
    darkest = stored[~pads].max() if negative else stored[~pads].min()
    return np.where(pads, darkest, stored)


def _look_up(values: NDArray[Any], tables: Dataset, name: str = "LUT") -> NDArray[Any]:
    """Replace values by those of a table.

    pydicom's functions for that mistake the values of a table of 8 bits for those of its index, and
    the order of the bytes of a palette.
    """
    count, first, _ = (int(number) for number in tables[f"{name}Descriptor"].value)
    entries = tables[f"{name}Data"].value
    count = count or 2**16
    if isinstance(entries, bytes):
        order = "<" if tables.original_encoding[1] else ">"
        entries = np.frombuffer(entries, "u1" if len(entries) < 2 * count else f"{order}u2")
    else:
        entries = np.asarray(entries, np.uint16)
    places = np.rint(values).astype(np.int64) - first
    return np.asarray(entries[np.clip(places, 0, min(count, entries.size) - 1)])


def _rescale(stored: NDArray[Any], slope: float, intercept: float) -> NDArray[Any]:
    return stored if (slope, intercept) == (1, 0) else stored * np.float32(slope) + intercept


def _read_rescale(header: Dataset) -> tuple[float, float]:
    slope, intercept = (read_number(header, f"Rescale{name}") for name in ("Slope", "Intercept"))
    return (slope, intercept or 0) if slope else (1, 0)


def _read_window(header: Dataset) -> Window | None:
    """Read the first window of a header; None where it has none.

    That of the function SIGMOID is taken as linear: it is as steep in its middle.
    """
    center, width = (read_number(header, f"Window{name}") for name in ("Center", "Width"))
    if center is None or width is None:
        return None
    if str(header.get("VOILUTFunction") or "LINEAR") == "LINEAR":
        center, width = center - 0.5, width - 1
    return Window(center - width / 2, center + width / 2, 0) if width > 0 else None


def _choose_window(stated: Window | None, values: NDArray[Any]) -> Window:
    """Choose the header's window, unless it would leave the head black, dark, grey or white."""
    best = choose_window(values)
    spread = best.high - best.low
    if stated is None or spread <= 0:
        return best
    low, high = ((end - best.low) / spread for end in stated[:2])
    if not (_LEAST_LOW <= low <= _MOST_LOW and _LEAST_HIGH <= high <= _MOST_HIGH):
        return best
    within = values[(values >= stated.low) & (values <= stated.high)]
    return stated._replace(levels=np.unique(within).size)
