"""Search in a table of vectors: neighbours, near-duplicates, indexes."""
