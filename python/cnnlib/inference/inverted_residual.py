"""Inverted residuals, found among a network's operations and made one operation each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from cnnlib.inference.ops import Op

PARTS = ("expand", "depthwise", "project")


def fuse_inverted_residuals(ops: Sequence[Op], output: str) -> list[Op]:
    """Make a 1x1 convolution, a depthwise one behind it and a 1x1 one behind that one operation.

    Where the hidden channels are more than those before and behind, nothing else reads them, and no method
    was asked for. The operation has a second input where the last convolution adds its result to that.
    """
    readers = Counter([name for op in ops for name in op.inputs] + [output])
    makers = {op.output: op for op in ops}
    places = {op.output: i for i, op in enumerate(ops)}
    blocks: dict[str, Op] = {}
    inside: set[str] = set()

    def before(op: Op | None) -> Op | None:
        maker = None if op is None else makers.get(op.inputs[0])
        return maker if maker is not None and readers[maker.output] == 1 else None

    for project in ops:
        depthwise = before(project)
        expand = before(depthwise)
        if expand is None or depthwise is None or len(expand.inputs) > 1 or expand.output in blocks:
            continue
        if not (_pointwise(expand) and _depthwise(depthwise) and _pointwise(project)):
            continue
        between = ops[places[expand.output] + 1 : places[project.output]]
        if _widens(expand, project) and not _written(between, expand):
            blocks[project.output] = _block(expand, depthwise, project)
            inside |= {expand.output, depthwise.output}
    return [blocks.get(op.output, op) for op in ops if op.output not in inside]


def _written(between: Sequence[Op], expand: Op) -> bool:
    """Whether a convolution in between adds its result to what `expand` reads, in its place."""
    return any(op.kind == "conv" and op.inputs[1:] == expand.inputs for op in between)


def _block(expand: Op, depthwise: Op, project: Op) -> Op:
    parts = expand, depthwise, project
    arrays = {
        f"{name}_{key}": array
        for name, part in zip(PARTS, parts, strict=True)
        for key, array in part.arrays.items()
    }
    options = {"conv_param": depthwise.options["conv_param"], "mosts": [part.most for part in parts]}
    inputs = [*expand.inputs, *project.inputs[1:]]
    label = " -> ".join(part.label for part in parts)
    return Op("inverted_residual", inputs, project.output, arrays, options, label=label)


def _widens(expand: Op, project: Op) -> bool:
    hidden, C = expand.arrays["w"].shape[:2]
    return hidden > max(C, len(project.arrays["w"]))


def _plain(op: Op) -> bool:
    return op.kind == "conv" and op.options["conv_param"].get("algorithm", "auto") == "auto"


def _pointwise(op: Op) -> bool:
    """Whether it is a 1x1 convolution at every pixel."""
    if not _plain(op):
        return False
    param = op.options["conv_param"]
    once = {key: param.get(key, usual) for key, usual in (("stride", 1), ("pad", 0), ("groups", 1))}
    plain = {"stride": (1, (1, 1)), "pad": (0, "same", "valid", (0, 0)), "groups": (1,)}
    return op.arrays["w"].shape[2:] == (1, 1) and all(value in plain[key] for key, value in once.items())


def _depthwise(op: Op) -> bool:
    """Whether it has one filter for each channel."""
    if not _plain(op) or len(op.inputs) > 1:
        return False
    F, group = op.arrays["w"].shape[:2]
    return group == 1 and op.options["conv_param"].get("groups", 1) == F
