"""Pure torch: no Lightning, no data, no config."""
