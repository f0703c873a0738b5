"""What one sample is: a row, a series of rows."""
