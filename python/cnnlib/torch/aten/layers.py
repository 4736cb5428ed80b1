"""Layers with weights or windows, padding, resizing and reshaping."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cnnlib.graph.importing import Feature
from cnnlib.torch.aten.call import Call, result, title, two
from cnnlib.torch.convolution import sides


def conv_param(
    call: Call, kernel: Sequence[int], stride: tuple[int, int], padding: Any, dilation: tuple[int, int]
) -> dict[str, Any]:
    """Make the parameter dict of a convolution of images."""
    top, bottom, left, right = sides(padding, kernel, stride, dilation)
    pad = (top, bottom), (left, right)
    return {"stride": stride, "pad": pad, "dilation": dilation, "groups": call["groups"]}


def _conv(call: Call) -> Feature:
    value = call.any_value("input")
    value = value if value.pad is not None else call.images("input")
    kernel, stride, dilation = call.shape("weight")[2:], two(call["stride"]), two(call["dilation"])
    param = conv_param(call, kernel, stride, call["padding"], dilation)
    around = value.pad or ((0, 0), (0, 0))
    param["pad"] = tuple((a + c, b + d) for (a, b), (c, d) in zip(around, param["pad"], strict=True))
    return call.emit("conv", value.bare(), params=call.given("weight", "bias"), args=(param,))


def _conv_transpose(call: Call) -> Feature:
    param = {
        "stride": two(call["stride"]),
        "pad": two(call["padding"]),
        "dilation": two(call["dilation"]),
        "groups": call["groups"],
        "output_pad": two(call["output_padding"]),
    }
    value, params = call.images("input"), call.given("weight", "bias")
    return call.emit("conv_transpose", value, params=params, args=(param,))


def _linear(call: Call) -> Feature:
    value = call.value("input")
    value = value if value.channels_last else call.rows("input")
    (w, w_name), (b, b_name) = call.weights("weight"), call.weights("bias")
    assert w is not None  # PyTorch requires it
    return call.product(value, w.T, b, (w_name, b_name))


def running_param(call: Call) -> tuple[dict[str, Any], str]:
    """The parameter dict of a batch norm by running statistics, and the name of these."""
    if call["training"]:
        call.fail("it normalises by the batch's statistics in eval mode too (track_running_stats=False)")
    given = call["running_mean"], call["running_var"], call["eps"], call["momentum"]
    found: tuple[dict[str, Any], str] = call.net.batch_norm(*given)
    return found


def _batch_norm(call: Call) -> Feature:
    bn_param, name = running_param(call)
    value = call.plain(call.value("input"))
    layer = "batchnorm" if len(value.shape) == 1 else "spatial_batchnorm"
    return call.same(layer, value, bn_param, params=call.affine(value.shape[0]), statistics=name)


def _instance_norm(call: Call) -> Feature:
    if not call["use_input_stats"] or call["running_mean"] is not None or call["running_var"] is not None:
        call.fail("instance norm by running statistics (track_running_stats=True) has no counterpart")
    call["momentum"]  # of the running statistics
    value = call.images("input")
    return call.same("spatial_instancenorm", value, {"eps": call["eps"]}, params=call.affine(value.shape[0]))


def _group_norm(call: Call) -> Feature:
    value, args = call.images("input"), (call["num_groups"], {"eps": call["eps"]})
    return call.same("spatial_groupnorm", value, *args, params=call.affine(value.shape[0]))


def _layer_norm(call: Call) -> Feature:
    value = call.value("input")
    last = value.channels_last and len(call["normalized_shape"]) == 1
    if not last:
        value = call.rows("input")
        if tuple(call["normalized_shape"]) != value.shape:
            call.fail(f"rows are normalised whole, got normalized_shape={call['normalized_shape']}")
    layer = "spatial_layernorm" if last else "layernorm"
    return call.same(layer, value, {"eps": call["eps"]}, params=call.affine(value.shape[0]))


def _pool_param(call):
    kernel = two(call["kernel_size"])
    return {
        "size": kernel,
        "stride": two(call["stride"]) if call["stride"] else kernel,
        "pad": two(call["padding"]),
        "ceil_mode": bool(call["ceil_mode"]),
    }


def _max_pool(call: Call) -> Feature:
    param = _pool_param(call) | {"dilation": two(call["dilation"])}
    return call.emit("max_pool", call.images("self"), args=(param,))


def _avg_pool(call: Call) -> Feature:
    if call["divisor_override"] is not None:
        call.fail(f"divisor_override={call['divisor_override']} has no counterpart")
    param = _pool_param(call) | {"count_include_pad": bool(call["count_include_pad"])}
    return call.emit("avg_pool", call.images("self"), args=(param,))


def _mean(call: Call) -> Feature:
    if len(call.shape("self")) != 4 or sorted(dim % 4 for dim in call["dim"] or ()) != [2, 3]:
        call.fail(f"a mean is taken over H and W of images alone, got dim={call['dim']}")
    call.ignore("keepdim")
    return _average(call, (1, 1))


def _average(call, size):
    if size != (1, 1):
        return call.emit("adaptive_avg_pool", call.images("self"), args=(size,))
    keep = len(call.out_shape) == 4
    return call.averaged(call.images("self"), keep=keep, images=keep and not _only_flattened(call.node))


def _only_flattened(node):
    """Whether all that reads (N, C, 1, 1) makes (N, C) of it first."""
    flat = tuple(result(node).shape[:2])
    return all(u.op == "call_function" and tuple(result(u).shape) == flat for u in node.users)


def _pad(call: Call) -> Feature:
    """Zeros around an image: kept until the convolution that reads it takes them as its own."""
    if call["mode"] != "constant" or call["value"] or len(call["pad"]) not in (2, 4):
        call.fail(f"padding of mode {call['mode']!r} and value {call['value']} has no counterpart")
    left, right, top, bottom = (*call["pad"], 0, 0)[:4]
    if min(call["pad"]) < 0:
        call.fail(f"padding of less than nothing, which crops, has no counterpart: {call['pad']}")
    return call.padded(call.any_value("self"), ((top, bottom), (left, right)))


def _upsample(call: Call, mode: str) -> Feature:
    value = call.images("input")
    before, after = call.shape("input")[2:], call.out_shape[2:]
    scales = tuple(a // b for a, b in zip(after, before))
    call.ignore("output_size")
    given = call["scale_factors"] or scales
    if any(a % b for a, b in zip(after, before)) or tuple(given) != scales:
        call.fail(f"upsampling is by whole factors alone, got {before} to {after}")
    # Without corners aligned PyTorch's nearest pixels are ours, too.
    align = mode == "bilinear" and bool(call["align_corners"])
    return call.emit("upsample", value, args=(scales, mode, align))


def _reshape(call: Call) -> Feature:
    """The same numbers in another shape."""
    call.ignore()
    value, after = call.value(0), call.out_shape[1:]
    if after == value.view:
        return value
    seen = call.in_order(value).seen_as(after)
    return call.plain(seen) if len(after) == 1 else seen


def _permute(call: Call) -> Feature:
    value, rank = call.value(0), len(call.shape(0))
    order = [dim % rank for dim in call["dims"]]
    moved = call.transposed(value, order)
    if (
        not (value.channels_last or moved.channels_last)
        and order != sorted(order)
        and call.net.follows(value)
    ):
        call.net.fixed_by = call.net.fixed_by or f"{title(call.node)}, which moves axes of length 1"
    return moved


def _expand(call: Call) -> Feature:
    """A value for each channel, spread over images: products and sums do that themselves."""
    call.ignore()
    value, before, after = call.value(0), call.shape(0), call.out_shape
    if before == after:
        return value
    if len(after) != 4 or before != (*after[:2], 1, 1):
        call.fail(f"spreading {before} to {after} has no counterpart")
    return value.seen_as(after[1:])


def _result_of(call: Call) -> Feature:
    """A part of a value that was split, or the first result of an operator that has several."""
    source, index = call.node.args
    values = call.net.values[source]
    if isinstance(values, list):
        return values[index]
    if index != 0:
        call.fail(f"only the first result of {source.name} has a counterpart")
    return call.value_of(source)


_RESHAPES: tuple[Any, ...] = ("flatten", "view", "reshape", "squeeze", "unsqueeze")

OPERATORS: dict[str, Callable[[Call], Feature]] = {
    "conv2d": _conv,
    "conv_transpose2d": _conv_transpose,
    "linear": _linear,
    "batch_norm": _batch_norm,
    "instance_norm": _instance_norm,
    "group_norm": _group_norm,
    "layer_norm": _layer_norm,
    "max_pool2d": _max_pool,
    "max_pool2d_with_indices": _max_pool,
    "avg_pool2d": _avg_pool,
    "adaptive_avg_pool2d": lambda call: _average(call, two(call["output_size"])),
    "adaptive_max_pool2d": lambda call: call.emit(
        "adaptive_max_pool", call.images("self"), args=(two(call["output_size"]),)
    ),
    "mean": _mean,
    "pad": _pad,
    "upsample_nearest2d": lambda call: _upsample(call, "nearest"),
    "upsample_bilinear2d": lambda call: _upsample(call, "bilinear"),
    **dict.fromkeys(_RESHAPES, _reshape),
    "permute": _permute,
    "expand": _expand,
    "expand_as": _expand,
    "getitem": _result_of,
}
