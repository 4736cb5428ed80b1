"""What readers of other libraries' networks build a :class:`~cnnlib.graph.Graph` with.

A reader translates operators, nothing more: it makes a :class:`TensorOperation` of each and calls its
methods.
"""

from cnnlib.graph.importing.builder import Builder, Feature, Sides
from cnnlib.graph.importing.operation import Operation
from cnnlib.graph.importing.tensors import TensorOperation

__all__ = ["Builder", "Feature", "Operation", "Sides", "TensorOperation"]
