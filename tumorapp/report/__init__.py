"""The report of a scan as a PDF."""

from tumorapp.report.api import FEATURE, PAGE

__all__ = ["FEATURE", "PAGE"]
