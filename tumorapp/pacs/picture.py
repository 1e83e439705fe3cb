"""The strongest slice of a series → a DICOM picture (secondary capture) of it."""

from functools import partial
from typing import Any

import cv2
import highdicom
import numpy as np
from pydicom.dataset import Dataset

from tumorapp.pacs.answered import NOTICE, AnsweredSeries, outline_of

_LEAST_WIDTH = 512  # so that its text can be read
_OUTLINE, _TEXT = (255, 64, 64), (255, 220, 0)  # RGB


def write_picture(series: AnsweredSeries) -> Dataset:
    """Write the strongest slice as it is shown, with the outline of the region and a notice."""
    shown = series.strongest.picture.grey
    stretch = max(1, -(-_LEAST_WIDTH // shown.shape[1]))
    grey = cv2.resize(shown, None, fx=stretch, fy=stretch, interpolation=cv2.INTER_CUBIC)
    canvas = cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB)
    height, width = grey.shape
    for polygon in outline_of(series.strongest):
        points = np.rint(np.array(polygon) * (width, height) - 0.5).astype(np.int32)
        cv2.polylines(canvas, [points], True, _OUTLINE, 2, cv2.LINE_AA)
    write = partial(cv2.putText, canvas, fontFace=cv2.FONT_HERSHEY_SIMPLEX)
    style: Any = {"color": _TEXT, "thickness": 1, "lineType": cv2.LINE_AA}
    write("TumorApp - not for diagnosis", org=(8, 20), fontScale=width / 900, **style)
    write(series.answer.verdict, org=(8, height - 10), fontScale=width / 900, **style)
    made = highdicom.sc.SCImage.from_ref_dataset(
        ref_dataset=series.source(series.strongest),
        pixel_array=canvas,
        photometric_interpretation=highdicom.PhotometricInterpretationValues.RGB,
        bits_allocated=8,
        coordinate_system=highdicom.CoordinateSystemNames.PATIENT,
        patient_orientation=("L", "P"),
        **series.describe("picture"),
    )
    made.PatientOrientation = []  # allowed, but not by highdicom: it may be of any plane
    made.BodyPartExamined, made.BurnedInAnnotation = "BRAIN", "YES"
    made.DerivationDescription = NOTICE
    return made
