"""Reads a brain MRI scan, and says what a published model sees in it. No Flask, no TensorFlow."""

import sys

# OpenVINO and NNCF report their use over the network whenever they are imported, from a copy of the
# process. Where this package cannot be imported they do without it, and nothing else needs it.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
