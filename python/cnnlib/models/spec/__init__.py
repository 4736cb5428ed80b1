"""A ConvNet's spec: reading it, the named ones, and what is built of it."""
