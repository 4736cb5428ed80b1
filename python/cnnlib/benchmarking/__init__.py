"""A network of yours in cnnlib beside the engines that are installed: :func:`benchmark`."""

from cnnlib.benchmarking.comparison import Comparison, Row, benchmark

__all__ = ["Comparison", "Row", "benchmark"]
