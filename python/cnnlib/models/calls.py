"""ConvNet's forward and backward pass.

A call is what runs: a stage, or several that the library has a sandwich layer for, or a residual block of
calls.
"""

import numpy as np

from cnnlib import _core, layers

_SANDWICHES = {
    ("conv", "spatial_batchnorm", "relu", "max_pool"): "conv_bn_relu_pool",
    ("conv", "spatial_batchnorm", "relu"): "conv_bn_relu",
    ("conv", "relu", "max_pool"): "conv_relu_pool",
    ("conv", "relu"): "conv_relu",
    ("affine", "batchnorm", "relu"): "affine_bn_relu",
    ("affine", "relu"): "affine_relu",
}


class Call:
    """A layer or sandwich of cnnlib.layers with the names of its parameters and its other arguments."""

    def __init__(self, layer, names, args, frozen=frozenset()):
        self.layer, self.names, self.args, self.frozen = layer, names, args, frozen
        self.skip_dx = False  # nothing before this call is trained

    @property
    def trained(self):
        """Whether it has parameters that are trained."""
        return any(name and name not in self.frozen for name in self.names)

    def forward(self, params, x):
        values = (params[name] if name else None for name in self.names)
        return getattr(layers, f"{self.layer}_forward")(x, *values, *self.args)

    def backward(self, dout, cache, grads):
        """Write the gradients of the parameters that are trained to `grads`; return that of x."""
        backward = getattr(layers, f"{self.layer}_backward")
        if not self.names:
            return backward(dout, cache)
        if self.layer.startswith(("conv", "affine")):
            weights = zip(("dw", "db"), self.names, strict=False)
            needs = [need for need, name in weights if name and name not in self.frozen]
            dx, *values = backward(dout, cache, needs=needs if self.skip_dx else ["dx", *needs])
        else:
            dx, *values = backward(dout, cache)
        for name, value in zip(self.names, values, strict=True):
            if name and name not in self.frozen:
                grads[name] = value
        return dx


class ScaleCall(Call):
    """factor * x, the one stage that is no layer of the library."""

    def forward(self, params, x):
        return x * x.dtype.type(self.args[0]), None

    def backward(self, dout, cache, grads):
        return dout * dout.dtype.type(self.args[0])


class ResidualCall:
    """body(x) + shortcut(x), and the relu stage behind it if there is one."""

    def __init__(self, body, shortcut):
        self.body, self.shortcut = body, shortcut
        self.relu = False
        self.skip_dx = False  # of no use here: the sum is trained in two places

    @property
    def trained(self):
        return any(call.trained for call in (*self.body, *self.shortcut))

    def forward(self, params, x):
        out, body_caches = forward_all(self.body, params, x)
        short, shortcut_caches = forward_all(self.shortcut, params, x)
        add = _core.add_relu if self.relu else _core.add
        out = add("ConvNet", out, np.ascontiguousarray(short))
        return out, (body_caches, shortcut_caches, out if self.relu else None)

    def backward(self, dout, cache, grads):
        body_caches, shortcut_caches, out = cache
        if self.relu:
            dout = layers.relu_backward(dout, out)
        short = np.ascontiguousarray(backward_all(self.shortcut, dout, shortcut_caches, grads))
        dx = backward_all(self.body, dout, body_caches, grads)
        if dx is dout:  # an identity handed it on, and an outer block's shortcut may hold it too
            return _core.add("ConvNet", dx, short)
        _core.add_to("ConvNet", dx, short)
        return dx


def forward_all(calls, params, x):
    """Run calls one after the other; return the last one's output and the list of their caches."""
    caches = []
    for call in calls:
        x, cache = call.forward(params, x)
        caches.append(cache)
    return x, caches


def backward_all(calls, dout, caches, grads):
    """Run them backwards, using up `caches`, so that memory is free again as soon as possible."""
    for call in reversed(calls):
        dout = call.backward(dout, caches.pop(), grads)
    return dout


def skip_untrained(calls):
    """Drop what nobody asks for from a network's backward pass; return how many calls it can do without.

    That is the gradient of the images, and everything before the first call that is trained.
    """
    for i, call in enumerate(calls):
        if call.trained:
            call.skip_dx = True
            return i
    return len(calls)


def fuse(stages, residuals, frozen):
    """The calls for a list of stages: the longest sandwich that fits, else the layer by itself."""
    calls, i = [], 0
    while i < len(stages):
        if i in residuals:
            calls.append(residuals[i])
            i += 1
            if i < len(stages) and stages[i].layer == "relu":
                residuals[i - 1].relu = True
                i += 1
            continue
        for length in (4, 3, 2, 1):
            run = stages[i : i + length]
            name = _SANDWICHES.get(tuple(stage.layer for stage in run))
            if name or length == 1:
                break
        names = sum((stage.names for stage in run), ())
        kind = ScaleCall if run[0].layer == "scale" else Call
        calls.append(kind(name or run[0].layer, names, sum((stage.args for stage in run), ()), frozen))
        i += len(run)
    return calls
