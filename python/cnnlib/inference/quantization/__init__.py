"""Eight-bit networks: calibration, the choice of ranges, and operations on bytes."""
