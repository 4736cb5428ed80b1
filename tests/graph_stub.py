"""Write `cnnlib/graph/layer_calls.pyi`: the signatures of a graph's layers, for editors and type checkers.

``python tests/graph_stub.py`` writes it anew where ops or their options have changed.
"""

import re
from pathlib import Path

import cnnlib
from cnnlib.graph.layer_calls import callable_layers, signature_of
from cnnlib.graph.ops import OPS

PATH = Path(cnnlib.__path__[0]) / "graph" / "layer_calls.pyi"
HEAD = """\
# Written by tests/graph_stub.py.
import inspect
from collections.abc import Sequence
from typing import Any, Literal

from numpy.typing import ArrayLike

from cnnlib.graph.ops import Op
from cnnlib.typing import _ByAxis, _Pad

def callable_layers() -> tuple[str, ...]: ...
def signature_of(op: Op) -> inspect.Signature: ...

class LayerCalls:
"""


def method(name: str) -> str:
    """A layer's method as a stub has it, an argument a line."""
    parts, bare, keywords = [], "", False
    for parameter in signature_of(OPS[name]).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            bare, keywords = "*", True
        elif parameter.kind is parameter.KEYWORD_ONLY and not keywords:
            parts.append("*")
            keywords = True
        default = "" if parameter.default is parameter.empty else f" = {shown(parameter.default)}"
        parts.append(f"{bare}{parameter.name}: {parameter.annotation}{default}")
        bare = ""
        if parameter.kind is parameter.POSITIONAL_ONLY and parameter.name == f"value{OPS[name].inputs}":
            parts.append("/")
    lines = "".join(f"        {part},\n" for part in ("self", *parts))
    return f"    def {name}(\n{lines}    ) -> str: ...\n"


def shown(default: object) -> str:
    """A default as the formatter leaves it."""
    return "..." if default is ... else f'"{default}"' if isinstance(default, str) else repr(default)


def text() -> str:
    """The stub."""
    methods = "".join(map(method, callable_layers()))
    typed = HEAD + methods
    # Imports that no signature needs.
    for name in ("Sequence", "Literal", "ArrayLike", "_ByAxis", "_Pad", "Any"):
        if not re.search(rf"\b{name}\b", methods):
            typed = re.sub(rf"(import .*?)(?:, )?\b{name}\b(?:, )?", r"\1", typed, count=1)
    return re.sub(r"^from \S+ import $\n", "", typed, flags=re.MULTILINE)


if __name__ == "__main__":
    PATH.write_text(text())
