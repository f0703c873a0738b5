"""Stored predictions become evidence."""
