"""What the versions of the standard operators allow."""

from __future__ import annotations

from typing import Any

from cnnlib.onnx.reading.operator import Operator


def check_version(op: Operator, proto: Any) -> None:
    """Refuse an operator, an attribute or an input that the file's version of the operators does not have."""
    onnx = op.net.source.onnx
    try:
        schema = onnx.defs.get_schema(op.kind, op.opset, "")
    except onnx.defs.SchemaError:
        op.fail(f"version {op.opset} of the standard operators has no {op.kind}")
    for attribute in proto.attribute:
        if attribute.name not in schema.attributes:
            op.fail(f"attribute {attribute.name}, which version {op.opset} of {op.kind} does not have")
    for name, attribute in schema.attributes.items():
        if attribute.required and all(given.name != name for given in proto.attribute):
            op.fail(f"attribute {name} is missing")
    if len(op.names) > schema.max_input:
        op.fail(f"{len(op.names)} inputs; version {op.opset} of {op.kind} has {schema.max_input} at most")
