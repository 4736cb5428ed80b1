"""What the operators of a file read and make: constants, and what is computed from the images."""

from __future__ import annotations

from typing import Any, TypeAlias

from numpy.typing import NDArray

from cnnlib.graph.importing import Feature

Constant: TypeAlias = NDArray[Any]  # numbers of any type; with Symbols in it an object array
Value: TypeAlias = Feature | Constant
