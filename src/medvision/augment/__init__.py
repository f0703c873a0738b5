"""Label-safe random change: draw the parameters, then apply them."""
