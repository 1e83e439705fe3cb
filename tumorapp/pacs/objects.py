"""What a model says of a series → DICOM objects for a PACS: a segmentation, a picture, a report."""

import warnings
from collections.abc import Sequence

from pydicom.dataset import Dataset

from brainscan import Answer, Problem
from tumorapp.pacs.answered import AnsweredSeries
from tumorapp.pacs.picture import write_picture
from tumorapp.pacs.report import write_report
from tumorapp.pacs.segmentation import write_segmentation

# The longest side of the pictures that an answer must have kept.
LONGEST_KEPT = 1024


def write_objects(answer: Answer, sources: Sequence[Dataset]) -> list[Dataset]:
    """Write what a PACS keeps of an answer.

    Args:
        answer: whose pictures were kept, up to `LONGEST_KEPT`; its verdict is not
            "not-recognised".
        sources: the headers of the files of its series; there may be others.

    Returns:
        Where a region is marked, its segmentation (if the header says where slices lie) and a
        picture of the strongest slice; and the report, which is last.

    Raises:
        Problem: the header lacks what such objects need, or contradicts itself.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # highdicom's quote names
            series = AnsweredSeries.of(answer, sources)
            segmentation = write_segmentation(series) if series.marked else None
            picture = write_picture(series) if series.marked else None
            report = write_report(series, segmentation)
            return [one for one in (segmentation, picture, report) if one is not None]
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # Its text may quote the header; of what is missing, the name is one of DICOM's.
        reason = getattr(error, "name", None) or type(error).__name__
        raise Problem("unusable-header", reason=reason) from error
