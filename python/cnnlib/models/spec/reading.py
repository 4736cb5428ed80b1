"""Reading a ConvNet's spec: what kinds of stages there are, and which options each has."""

import difflib
from collections.abc import Mapping

from cnnlib._params import check_keys
from cnnlib.models.spec.named import NAMED_SPECS

ACTIVATIONS = ("relu", "relu6", "sigmoid", "tanh", "silu", "hard_sigmoid", "hard_swish", "softmax")
_POOL_OPTIONS = ("stride", "pad", "ceil_mode")
KINDS: dict[str, tuple[str, ...]] = {  # of stages, and the options of each
    "conv": ("size", "stride", "pad", "dilation", "groups", "bias", "init", "frozen"),
    "conv_transpose": ("size", "stride", "pad", "dilation", "groups", "output_pad", "bias"),
    "depthwise": ("multiplier", "stride", "pad", "dilation", "bias"),
    "affine": ("bias",),
    "batchnorm": ("momentum", "eps", "scale"),
    "groupnorm": ("eps",),
    "instancenorm": ("eps",),
    "layernorm": ("eps",),
    **dict.fromkeys(ACTIVATIONS, ()),
    "leaky_relu": (),
    "elu": (),
    "gelu": (),
    "scale": (),
    "max_pool": (*_POOL_OPTIONS, "dilation"),
    "avg_pool": (*_POOL_OPTIONS, "count_include_pad"),
    "global_avg_pool": (),
    "global_max_pool": (),
    "adaptive_avg_pool": (),
    "adaptive_max_pool": (),
    "upsample": ("mode", "align_corners"),
    "dropout": (),
    "residual": ("shortcut",),
    "concat": (),
    "add": (),
    "multiply": (),
}
BRANCHING = ("residual", "concat", "add", "multiply")
WITH_BIAS = ("conv", "conv_transpose", "depthwise", "affine")
HEADS = ("classes", "values", "pixels")  # what a network ends in
_EVERYWHERE = ("name", "from")  # what a stage's value is called, and which one it reads
_WITHOUT_VALUE = (
    *ACTIVATIONS,
    "batchnorm",
    "instancenorm",
    "layernorm",
    "global_avg_pool",
    "global_max_pool",
)
_WITH_DEFAULT = ("leaky_relu", "elu", "gelu")


def resolve(spec):
    """The spec itself, or the ready one of that name."""
    if not isinstance(spec, str):
        return spec
    if spec not in NAMED_SPECS:
        near = difflib.get_close_matches(spec, NAMED_SPECS, 1, 0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(NAMED_SPECS)}"
        raise ValueError(f"ConvNet: unknown spec {spec!r}; {hint}")
    return NAMED_SPECS[spec]


def split_head(spec):
    """The stages before the head, the head's kind, and its size where it stands there."""
    entries = list(spec) if isinstance(spec, (list, tuple)) else spec
    last = entries[-1] if isinstance(entries, list) and entries else None
    kind = next(iter(last)) if isinstance(last, Mapping) and len(last) == 1 else last
    if kind not in HEADS:
        return entries, "classes", None
    return entries[:-1], kind, last[kind] if isinstance(last, Mapping) else None


def parse(place, entry):
    """A line of the spec as (kind, value, options)."""
    if isinstance(entry, str):
        kind, value, options = entry, None, {}
        if kind in KINDS and kind not in (*_WITHOUT_VALUE, *_WITH_DEFAULT):
            raise ValueError(f"ConvNet: {place}: {kind} needs a value: {{{kind!r}: ...}}")
    elif isinstance(entry, dict) and entry:
        kinds = [key for key in entry if key in KINDS]
        kind = kinds[0] if len(kinds) == 1 else next(iter(entry))
        value, options = entry[kind], {key: item for key, item in entry.items() if key != kind}
    else:
        raise TypeError(f"ConvNet: {place} must be a name or a dict such as {{'conv': 16}}, got {entry!r}")
    if kind in HEADS:
        raise ValueError(f"ConvNet: {place}: {kind} is a head, which comes last and takes its size alone")
    if kind not in KINDS:
        near = difflib.get_close_matches(str(kind), KINDS, 1, 0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(KINDS)}"
        raise ValueError(f"ConvNet: {place}: unknown kind {kind!r}; {hint}")
    check_keys(f"ConvNet: {place}", kind, options, (*KINDS[kind], *_EVERYWHERE))
    if isinstance(value, Mapping):
        beside = "".join(f", {option!r}: ..." for option in KINDS[kind][:1])
        raise TypeError(
            f"ConvNet: {place}: {kind} takes its value itself, and options beside it: "
            f"{{{kind!r}: ...{beside}}}; got {value!r}"
        )
    if kind in _WITHOUT_VALUE and value is not None:
        raise ValueError(f"ConvNet: {place}: {kind} takes no value, got {value!r}: {{{kind!r}: None, ...}}")
    return kind, value, options
