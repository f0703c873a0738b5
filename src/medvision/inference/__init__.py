"""What a frozen model answers."""
