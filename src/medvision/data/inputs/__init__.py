"""New files, as a trained model meets them."""
