"""Forward passes that keep nothing for a backward pass: no mask, no copy; batch norm writes to its input.

They give the bits of the public layers in 'test' mode with one array of the output's size instead of two.
"""

from __future__ import annotations

from functools import partial

from cnnlib.layers.conv import _conv
from cnnlib.layers.dense import _affine
from cnnlib.layers.norm.batch import _batchnorm
from cnnlib.layers.pool import _max_pool

conv_relu = partial(_conv, "conv_relu_forward", relu=True)
affine_relu = partial(_affine, "affine_relu_forward", relu=True)


def conv_bn_relu(x, w, b, gamma, beta, conv_param, bn_param):
    function = "conv_bn_relu_forward"
    a = _conv(function, x, w, b, conv_param)
    return _batchnorm(function, 4, a, gamma, beta, bn_param, relu=True, in_place=True)[0]


def conv_relu_pool(x, w, b, conv_param, pool_param):
    return _max_pool("conv_relu_pool_forward", conv_relu(x, w, b, conv_param), pool_param)[0]


def conv_bn_relu_pool(x, w, b, gamma, beta, conv_param, bn_param, pool_param):
    a = conv_bn_relu(x, w, b, gamma, beta, conv_param, bn_param)
    return _max_pool("conv_bn_relu_pool_forward", a, pool_param)[0]


def affine_bn_relu(x, w, b, gamma, beta, bn_param):
    function = "affine_bn_relu_forward"
    a = _affine(function, x, w, b)
    return _batchnorm(function, 2, a, gamma, beta, bn_param, relu=True, in_place=True)[0]
