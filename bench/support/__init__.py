"""What the benchmarks share: cases, sides, processes, timing and reports. Nothing here is run by itself."""
