"""The time of a problem's passes beside PyTorch's."""

from __future__ import annotations

import sys
from pathlib import Path

from helpers import as_tuple

BENCH = Path(__file__).parents[2] / "bench"


def timed(run, seconds):
    """
    Return a text: milliseconds of cnnlib and PyTorch forward and backward, the least of `seconds` in turn.

    PyTorch's backward pass is its autograd's. Layers that it has no name for are timed alone, and so are all
    where it is not installed.
    """
    sys.path.insert(0, str(BENCH))
    try:
        from support import timing
    finally:
        sys.path.remove(str(BENCH))
    threads = max(run.problem.threads or (2,))
    torch_calls = _torch_calls(run, threads)
    parts = []
    with run.set_up(threads):
        own = _own_calls(run)
        for name in _passes(run):
            calls = {"cnnlib": own[name], **({"torch": torch_calls[name]} if torch_calls else {})}
            for call in calls.values():
                call()
            least = {who: 1e3 * times.minimum for who, times in timing.interleave(calls, seconds).items()}
            text = f"{name} {least['cnnlib']:.3g} ms"
            if "torch" in least:
                text += f", PyTorch {least['torch']:.3g} ms ({least['torch'] / least['cnnlib']:.2f})"
            parts.append(text)
    return "; ".join(parts) + ("" if torch_calls else "; PyTorch has no such layer, or is not installed")


def _passes(run):
    """Return which passes the line's results need."""
    if run.is_loss:
        return ["forward"]
    asked = run.problem.results or run.names
    passes = ["forward"] if set(asked) & {"out", "packed"} else []
    return [*passes, *(["backward"] if any(name.startswith("d") for name in asked) else [])]


def _own_calls(run):
    if run.is_loss:
        import cnnlib

        loss = getattr(cnnlib, run.problem.layer)
        return {"forward": lambda: loss(run.arrays[0], run.targets)}
    rest = run.layer.rest()
    _, cache = run.layer.forward(*run.arrays, *rest)
    forward, backward, needs = run.layer.forward, run.layer.backward, run.needs()
    return {
        "forward": lambda: forward(*run.arrays, *rest)[0],
        "backward": lambda: as_tuple(backward(run.dout, cache, **needs)),
    }


def _torch_calls(run, threads):
    """Return PyTorch's calls by pass, or None."""
    try:
        import torch
    except ImportError:
        return None
    function = _functions(torch, run).get(run.problem.layer)
    if function is None:
        return None
    torch.set_num_threads(threads)
    tensors = [torch.from_numpy(array).requires_grad_() for array in run.arrays]
    out = function(*tensors)
    dout = torch.from_numpy(run.dout)
    wanted = [
        t for t, name in zip(tensors, run.layer.names) if f"d{name}" in (run.problem.results or run.names)
    ]

    def forward():
        with torch.inference_mode():
            return function(*tensors)

    return {"forward": forward, "backward": lambda: torch.autograd.grad(out, wanted, dout, retain_graph=True)}


def _functions(torch, run):
    """Return PyTorch's functions by the layers' names, for this problem's parameters."""
    nn, rest = torch.nn.functional, run.layer.rest()
    param = rest[0] if rest and isinstance(rest[0], dict) else {}

    def convolution(x, w, b):
        pad = param.get("pad", 0)
        return nn.conv2d(x, w, b, param.get("stride", 1), pad, param.get("dilation", 1), param["groups"])

    def pool(function):
        size, more = (param.get("pool_height"), param.get("pool_width")), {}
        if "ceil_mode" in param:
            more["ceil_mode"] = param["ceil_mode"]
        stride, pad = param.get("stride", 1), param.get("pad", 0)
        return lambda x: function(x, size, stride, pad, **more)

    found = {
        **{name: pool(getattr(nn, f"{name}2d")) for name in ("max_pool", "avg_pool")},
        "conv_relu": lambda x, w, b: nn.relu(convolution(x, w, b)),
        "conv": convolution,
        "affine": lambda x, w, b: nn.linear(x, w.T, b),
        "affine_relu": lambda x, w, b: nn.relu(nn.linear(x, w.T, b)),
        "global_avg_pool": lambda x: x.mean((2, 3)),
        "softmax": lambda x: nn.softmax(x, 1),
        "layernorm": lambda x, gamma, beta: nn.layer_norm(x, x.shape[1:], gamma, beta),
        "spatial_groupnorm": lambda x, gamma, beta: nn.group_norm(x, rest[0], gamma, beta),
        "attention": lambda q, k, v: nn.scaled_dot_product_attention(q, k, v, is_causal=param["causal"]),
        "relu": nn.relu,
        "relu6": nn.relu6,
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "silu": nn.silu,
        "gelu": lambda x: nn.gelu(x, approximate=rest[0] if rest else "none"),
        "hard_swish": nn.hardswish,
        "hard_sigmoid": nn.hardsigmoid,
    }
    if param.get("mode") == "train":
        norm = lambda x, gamma, beta: nn.batch_norm(x, None, None, gamma, beta, training=True)  # noqa: E731
        found |= {"batchnorm": norm, "spatial_batchnorm": norm}
    return found
