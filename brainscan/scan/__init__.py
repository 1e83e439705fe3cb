"""From the bytes of a file to the array a model takes, for training and serving alike."""

from brainscan.messages import ScanError
from brainscan.scan.crop import Outline
from brainscan.scan.formats import MAX_PIXELS, read_picture
from brainscan.scan.frame import Box
from brainscan.scan.picture import Picture
from brainscan.scan.prepare import PreparedScan, ScanSpecification, prepare_scan, read_scan

__all__ = [
    "MAX_PIXELS",
    "Box",
    "Outline",
    "Picture",
    "PreparedScan",
    "ScanError",
    "ScanSpecification",
    "prepare_scan",
    "read_picture",
    "read_scan",
]
