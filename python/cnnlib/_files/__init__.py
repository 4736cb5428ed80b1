"""Files that are written whole or not at all, their versions, locks, the headers of NumPy's arrays."""
