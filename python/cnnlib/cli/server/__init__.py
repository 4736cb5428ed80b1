"""The HTTP server of ``cnnlib serve``."""
