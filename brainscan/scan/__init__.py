"""From the bytes of an image file to the array a model takes, for training and serving alike."""

from brainscan.scan.crop import Box, Outline, find_head, trace_head
from brainscan.scan.decode import MAX_PIXELS, OversizedScanError, ScanError, decode_scan
from brainscan.scan.prepare import PreparedScan, ScanSpecification, prepare_scan, read_scan

__all__ = [
    "MAX_PIXELS",
    "Box",
    "Outline",
    "OversizedScanError",
    "PreparedScan",
    "ScanError",
    "ScanSpecification",
    "decode_scan",
    "find_head",
    "prepare_scan",
    "read_scan",
    "trace_head",
]
