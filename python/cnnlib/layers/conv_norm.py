"""Convolution, batch norm and ReLU in one pass over slices of the batch."""

from __future__ import annotations

from cnnlib import _core
from cnnlib._params import wanted
from cnnlib._params.arrays import prepare_sandwich_backward, result
from cnnlib.layers.caches import unpack
from cnnlib.layers.conv import _CACHE, _GRADIENTS, _conv
from cnnlib.layers.norm.batch import (
    _batch_options,
    _batchnorm,
    _moved,
    _running_statistics,
    _unpack_batchnorm,
)


def _conv_bn_relu(function, given, x, w, b, gamma, beta, conv_param, bn_param):
    """`given` are the five arrays as the caller has them, the others those that `prepare` made of them."""
    mode, eps, momentum = _batch_options(function, bn_param)
    conv_cache = *given[:3], conv_param
    if mode == "test" or x.shape[:1] == (0,):
        a = _conv(function, x, w, b, conv_param)
        out, (_, *statistics) = _batchnorm(function, 4, a, gamma, beta, bn_param, relu=True)
        return out, (conv_cache, ((a, *given[3:]), *statistics))
    running = _running_statistics(function, bn_param, w.shape[:1], x.dtype)
    out, a, mean, var, inv_std = _core.conv_bn_relu_train(function, x, w, b, gamma, beta, eps, conv_param)
    bn_param["running_mean"], bn_param["running_var"] = _moved(function, running, (mean, var), momentum)
    return out, (conv_cache, ((a, *given[3:]), mean, inv_std, True))


def _conv_bn_relu_backward(function, dout, cache, needs):
    conv_cache, bn_cache = unpack(function, cache, "conv's cache", "batch norm's cache")
    x, w, b, conv_param = unpack(function, conv_cache, *_CACHE)
    (a, gamma, beta), mean, inv_std, from_batch = _unpack_batchnorm(function, bn_cache)
    need_dx, need_dw, need_db = wanted(function, needs, _GRADIENTS)
    names = ("x", "w", "b", "gamma", "beta")
    arrays, dtype = prepare_sandwich_backward(function, dout, a, names, x, w, b, gamma, beta)
    dout, a, x, w, b, gamma, beta = arrays
    norm = mean, inv_std, gamma, beta, from_batch
    needs = need_dx, need_dw, need_db and b is not None
    grads = _core.conv_bn_relu_backward(function, dout, x, w, a, *norm, conv_param, *needs)
    return tuple(result(grad, dtype) for grad in grads)
