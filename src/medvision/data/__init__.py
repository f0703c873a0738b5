"""Files on disk become a table, an array and batches."""
