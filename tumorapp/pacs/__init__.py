"""Answers series of a PACS: takes them by DICOMweb or C-STORE, and gives back DICOM objects."""
