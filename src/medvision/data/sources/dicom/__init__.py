"""Folders of DICOM files."""
