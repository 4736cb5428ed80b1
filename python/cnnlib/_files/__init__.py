"""Files that are written whole or not at all, locks, the headers of NumPy's arrays."""
