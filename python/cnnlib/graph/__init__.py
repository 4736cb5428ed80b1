"""The form of every network: nodes that name layers, beside the arrays that they name.

Specs, models and importers build a :class:`Graph`; training, inference and exchange start from one.
"""

from cnnlib.graph.graph import Graph, Node

__all__ = ["Graph", "Node"]
