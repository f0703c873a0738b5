"""Figures that any task may draw."""
