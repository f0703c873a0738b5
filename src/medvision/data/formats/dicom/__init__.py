"""Pixels and facts of DICOM files."""
