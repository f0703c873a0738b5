"""Images decoded once, alike, in one array."""
