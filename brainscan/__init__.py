"""Reads a brain MRI scan, and says what a published model sees in it. No Flask, no TensorFlow.

from brainscan import open_model

model = open_model("instance/models/lesion-lite0")
for examination in model.examine(["scan.jpg", "folder/"]):
    print(examination.name, examination.verdict, examination.label, examination.probabilities)
"""

import sys

# OpenVINO and NNCF report their use over the network whenever they are imported, from a copy of the
# process. Where this package cannot be imported they do without it, and nothing else needs it.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

from brainscan.archive import Archive  # noqa: E402
from brainscan.examination import (  # noqa: E402
    Answer,
    Examination,
    SeriesExamination,
    SliceExamination,
)
from brainscan.examine import examine_files  # noqa: E402
from brainscan.lesion import Lesion  # noqa: E402
from brainscan.messages import Message, Problem, ScanError  # noqa: E402
from brainscan.model import Model  # noqa: E402
from brainscan.opening import open_model  # noqa: E402
from brainscan.reading import ImageFile  # noqa: E402

__all__ = [
    "Answer",
    "Archive",
    "Examination",
    "ImageFile",
    "Lesion",
    "Message",
    "Model",
    "Problem",
    "ScanError",
    "SeriesExamination",
    "SliceExamination",
    "examine_files",
    "open_model",
]
