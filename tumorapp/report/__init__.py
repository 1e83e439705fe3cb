"""The report of a scan as a PDF."""
