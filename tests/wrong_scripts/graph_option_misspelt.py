"""A layer of a graph has the options of its function.

mypy: Unexpected keyword argument "padding" for "conv" of "LayerCalls"
"""

from cnnlib.models import Graph

graph = Graph()
graph.conv("W1", padding=1)
