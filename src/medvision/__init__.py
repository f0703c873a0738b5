"""The honest medical-imaging lab in one command."""
