"""In-place operators on views, whose effect on other values a record does not show."""

from __future__ import annotations

from typing import Any

from cnnlib.torch.aten.call import title

_UNDECLARED = ("dropout", "feature_dropout")  # in eval mode they return their argument itself


def refuse_changed_views(nodes: list[Any]) -> None:
    """
    Refuse a record in which a value changes in place and is then read under another name.

    A value that is read under its own name is no trouble: recording makes that the new value.

    Raises
    ------
    ValueError
        There is such a value; the message names the operator.
    """
    place = {node: i for i, node in enumerate(nodes)}
    root = {node: node for node in nodes}
    for node in nodes:
        if _shares_memory(node):
            root[node] = root[node.args[0]]
    for node in nodes:
        if _operator(node).endswith("_"):
            changed = node.args[0]
            others = [
                n for n in nodes if root[n] is root[changed] and place[n] < place[node] and n is not changed
            ]
            if any(place[user] > place[node] for other in others for user in other.users):
                raise ValueError(
                    f"load: {title(node)}: it changes in place what is read under another name later on"
                )


def _shares_memory(node):
    """Whether the result is, or may be, a view of the first argument or that argument itself."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or not schema.returns:
        return False
    return schema.returns[0].alias_info is not None or _operator(node) in _UNDECLARED


def _operator(node):
    """The name of an ATen operator, '' for all else; in-place ones end with an underscore."""
    schema = getattr(node.target, "_schema", None)
    name = "" if schema is None else schema.name.removeprefix("aten::")
    return "" if name.startswith("_") else name
