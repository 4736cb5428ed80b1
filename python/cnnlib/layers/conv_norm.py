"""Convolution, batch norm and ReLU in one pass over slices of the batch."""

from __future__ import annotations

from cnnlib import _core
from cnnlib._arrays import prepare, prepare_backward, result
from cnnlib._params import wanted
from cnnlib.layers.conv import _GRADIENTS, _conv, _geometry
from cnnlib.layers.norm import _batch_options, _BatchCache, _batchnorm, _moved, _running_statistics


def _conv_bn_relu(function, x, w, b, gamma, beta, conv_param, bn_param):
    mode, eps, momentum = _batch_options(function, bn_param)
    conv_cache = x, w, b, conv_param
    if mode == "test" or len(x) == 0:
        a = _conv(function, x, w, b, conv_param)
        out, bn_cache = _batchnorm(function, 4, a, gamma, beta, bn_param, relu=True)
        return out, (conv_cache, bn_cache)
    names = ("x", "w", "b", "gamma", "beta")
    (x, w, b, gamma, beta), _ = prepare(function, names, x, w, b, gamma, beta)
    geometry, algorithm = _geometry(function, conv_param, x, w)
    running = _running_statistics(function, bn_param, w.shape[:1], x.dtype)
    out, a, mean, var, inv_std = _core.conv_bn_relu_train(
        function, x, w, b, gamma, beta, eps, geometry, algorithm
    )
    bn_param["running_mean"], bn_param["running_var"] = _moved(function, running, (mean, var), momentum)
    return out, (conv_cache, _BatchCache((a, gamma, beta), mean, inv_std, from_batch=True))


def _conv_bn_relu_backward(function, dout, cache, needs):
    (x, w, b, conv_param), (arrays, mean, inv_std, from_batch) = cache
    need_dx, need_dw, need_db = wanted(function, needs, _GRADIENTS)
    names = ("x", "w", "b", "a", "gamma", "beta")
    (dout, x, w, b, a, gamma, beta), dtype = prepare_backward(function, dout, names, x, w, b, *arrays)
    geometry, algorithm = _geometry(function, conv_param, x, w)
    norm = mean, inv_std, gamma, beta, from_batch
    needs = need_dx, need_dw, need_db and b is not None
    grads = _core.conv_bn_relu_backward(function, dout, x, w, a, *norm, geometry, algorithm, *needs)
    return tuple(result(grad, dtype) for grad in grads)
