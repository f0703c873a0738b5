"""Which class, or which classes, an image or a series shows."""
