"""Whose a file is, whether it is what it was, and what it may name."""
