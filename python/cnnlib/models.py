"""Models to train with :class:`cnnlib.solver.Solver`.

A model is any object with

- ``params``: a dict of name -> array, and
- ``loss(X, y=None)``: scores (N, num_classes) without labels (test mode), ``(loss, grads)`` with them
  (training mode), ``grads`` being a dict with the keys and shapes of ``params``.

A model may have further attributes that the Solver knows. Two hold state beyond the parameters, which it
keeps in its snapshots and checkpoints:

- ``bn_params``: a list (or dict) of batch-norm parameter dicts. The arrays in them (``running_mean``,
  ``running_var``) belong to the weights: they are saved, restored and kept as "best" together with these.
- ``rng``: a ``np.random.Generator`` or ``np.random.RandomState`` that the model draws from while it trains.
  None: ``np.random``, and during a seeded run the stream that the Solver then puts there.

One it sets: ``label_smoothing`` (0 .. 1), if the run asks for it. Two let a model begin otherwise:

- ``frozen``: names of parameters that are not trained; ``loss`` need not give their gradients.
- ``initialize(X)``: called with the training images before the training, to set the weights that depend on
  them and have not been set yet.
"""

import itertools
import math

import numpy as np

from cnnlib._modeling import (
    add_l2,
    positive_int,
    probability,
    random_stream,
    real_dtype,
    set_mask_seed,
    set_mode,
    smoothed_softmax_loss,
)
from cnnlib._params import number
from cnnlib.convnet import ConvNet
from cnnlib.layers import (
    affine_backward,
    affine_bn_relu_backward,
    affine_bn_relu_forward,
    affine_forward,
    affine_relu_backward,
    affine_relu_forward,
    conv_bn_relu_pool_backward,
    conv_bn_relu_pool_forward,
    conv_relu_pool_backward,
    conv_relu_pool_forward,
    dropout_backward,
    dropout_forward,
)

__all__ = ["ConvNet", "FullyConnectedNet", "ThreeLayerConvNet"]


class ThreeLayerConvNet:
    """conv - [batch norm] - relu - 2x2 max pool - affine - [batch norm] - relu - affine - softmax.

    The convolution has stride 1 and keeps the image's size; the pool halves it (rounding down).

    Parameters
    ----------
    input_dim : (int, int, int)
        C, H, W of the images; H and W at least 2.
    num_filters, filter_size, hidden_dim, num_classes : int
    weight_scale : float
        Standard deviation of the normally distributed initial weights; biases start at 0, batch-norm
        scales at 1.
    reg : float
        Strength of L2 regularisation: ``reg / 2 * sum(W**2)``, summed over the ``W*``, is added to the
        loss.
    dtype : np.float32 or np.float64
        Of the parameters and of all computation.
    use_batchnorm : bool
        Batch norm after the convolution (per channel) and after the hidden affine layer.
    seed : int or None
        Governs the initial weights; None lets ``np.random`` draw them.

    Attributes
    ----------
    params : dict
        ``W1`` (F, C, size, size), ``b1`` (F,), ``W2`` (F * (H//2) * (W//2), hidden_dim), ``b2``, ``W3``
        (hidden_dim, num_classes), ``b3``; with batch norm ``gamma1 beta1`` (F,), ``gamma2 beta2``
        (hidden_dim,).
    bn_params : list of dict
        Of the two batch norms; holds the running statistics. Empty without batch norm.
    label_smoothing : float
        Share of each label's probability that is spread over all classes, as in
        :class:`cnnlib.convnet.ConvNet`; 0 at first.

    Raises
    ------
    ValueError, TypeError
        For sizes below 1, images too small to pool, negative ``reg`` or ``weight_scale``, or another dtype.
    """

    def __init__(
        self,
        input_dim=(3, 32, 32),
        num_filters=32,
        filter_size=7,
        hidden_dim=100,
        num_classes=10,
        weight_scale=1e-3,
        reg=0.0,
        dtype=np.float32,
        use_batchnorm=False,
        seed=None,
    ):
        where = "ThreeLayerConvNet"
        self.dtype = real_dtype(where, dtype)
        self.reg = number(where, "reg", reg, 0)
        self.use_batchnorm = bool(use_batchnorm)
        self.label_smoothing = 0.0
        self.rng = None  # nothing is drawn in training
        C, H, W = _image_size(where, input_dim)
        F = positive_int(where, "num_filters", num_filters)
        size = positive_int(where, "filter_size", filter_size)
        hidden = positive_int(where, "hidden_dim", hidden_dim)
        classes = positive_int(where, "num_classes", num_classes)
        scale = number(where, "weight_scale", weight_scale, 0)
        random = random_stream(seed, where)

        self.params = {
            "W1": scale * random.randn(F, C, size, size),
            "b1": np.zeros(F),
            "W2": scale * random.randn(F * (H // 2) * (W // 2), hidden),
            "b2": np.zeros(hidden),
            "W3": scale * random.randn(hidden, classes),
            "b3": np.zeros(classes),
        }
        self.bn_params = []
        if self.use_batchnorm:
            self.params |= {"gamma1": np.ones(F), "beta1": np.zeros(F)}
            self.params |= {"gamma2": np.ones(hidden), "beta2": np.zeros(hidden)}
            self.bn_params = [{"mode": "train"}, {"mode": "train"}]
        self.params = {name: value.astype(self.dtype) for name, value in self.params.items()}
        self.conv_param = {"stride": 1, "pad": "same"}
        self.pool_param = {"pool_height": 2, "pool_width": 2, "stride": 2}

    def loss(self, X, y=None):
        """Scores of X (N, C, H, W), or with labels y (N,) the loss and the gradients of all parameters.

        Returns
        -------
        scores : ndarray (N, num_classes)
            If y is None; batch norm then uses its running statistics.
        loss, grads : float, dict
            Otherwise; batch norm uses, and learns from, the batch's own statistics.
        """
        p = self.params
        X = np.asarray(X, dtype=self.dtype)
        set_mode(self.bn_params, train=y is not None)

        conv, pool = self.conv_param, self.pool_param
        if self.use_batchnorm:
            bn1, bn2 = self.bn_params
            pooled, cache1 = conv_bn_relu_pool_forward(
                X, p["W1"], p["b1"], p["gamma1"], p["beta1"], conv, bn1, pool
            )
            hidden, cache2 = affine_bn_relu_forward(pooled, p["W2"], p["b2"], p["gamma2"], p["beta2"], bn2)
        else:
            pooled, cache1 = conv_relu_pool_forward(X, p["W1"], p["b1"], conv, pool)
            hidden, cache2 = affine_relu_forward(pooled, p["W2"], p["b2"])
        scores, cache3 = affine_forward(hidden, p["W3"], p["b3"])
        if y is None:
            return scores

        loss, dscores = smoothed_softmax_loss(scores, y, self.label_smoothing)
        g = {}
        dhidden, g["W3"], g["b3"] = affine_backward(dscores, cache3)
        if self.use_batchnorm:
            dpooled, g["W2"], g["b2"], g["gamma2"], g["beta2"] = affine_bn_relu_backward(dhidden, cache2)
            _, g["W1"], g["b1"], g["gamma1"], g["beta1"] = conv_bn_relu_pool_backward(
                dpooled, cache1, needs=("dw", "db")
            )
        else:
            dpooled, g["W2"], g["b2"] = affine_relu_backward(dhidden, cache2)
            _, g["W1"], g["b1"] = conv_relu_pool_backward(dpooled, cache1, needs=("dw", "db"))
        return loss + add_l2(p, g, self.reg), g


class FullyConnectedNet:
    """{affine - [batch norm] - relu - [dropout]} for each hidden layer, then affine - softmax.

    Parameters
    ----------
    hidden_dims : sequence of int
        Sizes of the hidden layers; empty for a linear classifier.
    input_dim : int or sequence of int
        Size D of an input, or its shape; inputs (N, d1, ..., dk) are flattened.
    num_classes : int
    dropout : float
        Probability of dropping a hidden value, in [0, 1); 0 for no dropout.
    use_batchnorm : bool
        Batch norm between each hidden affine layer and its relu.
    reg : float
        Strength of L2 regularisation: ``reg / 2 * sum(W**2)`` over the ``W*`` is added to the loss.
    weight_scale : float
        Standard deviation of the normally distributed initial weights; biases start at 0, batch-norm
        scales at 1.
    dtype : np.float32 or np.float64
        Of the parameters and of all computation.
    seed : int or None
        Governs the initial weights and the dropout masks, and leaves ``np.random`` alone. A layer's mask
        then depends on the seed and on the minibatch's content: the same minibatch meets the same mask
        (so that gradients can be checked numerically), another minibatch another. None: ``np.random``
        draws the weights, and a new mask at every call.

    Attributes
    ----------
    params : dict
        For layer i = 1 .. L: ``Wi`` (fan_in, fan_out), ``bi`` (fan_out,); with batch norm ``gammai``,
        ``betai`` (fan_out,) for each but the last.
    bn_params : list of dict
        One for each batch norm; holds the running statistics. Empty without batch norm.
    label_smoothing : float
        Share of each label's probability that is spread over all classes, as in
        :class:`cnnlib.convnet.ConvNet`; 0 at first.

    Raises
    ------
    ValueError, TypeError
        For sizes below 1, ``dropout`` outside [0, 1), negative ``reg`` or ``weight_scale``, another dtype.
    """

    def __init__(
        self,
        hidden_dims,
        input_dim=3 * 32 * 32,
        num_classes=10,
        dropout=0,
        use_batchnorm=False,
        reg=0.0,
        weight_scale=1e-2,
        dtype=np.float32,
        seed=None,
    ):
        where = "FullyConnectedNet"
        self.dtype = real_dtype(where, dtype)
        self.reg = number(where, "reg", reg, 0)
        self.dropout = probability(where, "dropout", dropout)
        self.use_batchnorm = bool(use_batchnorm)
        self.label_smoothing = 0.0
        self.seed, self.rng = seed, None
        scale = number(where, "weight_scale", weight_scale, 0)
        random = random_stream(seed, where)

        input_shape = np.atleast_1d(np.asarray(input_dim, dtype=object))
        D = math.prod(positive_int(where, "input_dim", d) for d in input_shape)
        hidden = [positive_int(where, "hidden_dims", d) for d in hidden_dims]
        sizes = [D, *hidden, positive_int(where, "num_classes", num_classes)]
        self.num_layers = len(sizes) - 1

        self.params = {}
        for i, (fan_in, fan_out) in enumerate(itertools.pairwise(sizes), start=1):
            self.params[f"W{i}"] = scale * random.randn(fan_in, fan_out)
            self.params[f"b{i}"] = np.zeros(fan_out)
            if self.use_batchnorm and i < self.num_layers:
                self.params[f"gamma{i}"] = np.ones(fan_out)
                self.params[f"beta{i}"] = np.zeros(fan_out)
        self.params = {name: value.astype(self.dtype) for name, value in self.params.items()}
        self.bn_params = [{"mode": "train"} for _ in hidden] if self.use_batchnorm else []

    def loss(self, X, y=None):
        """Scores of X (N, d1, ..., dk), or with labels y (N,) the loss and the gradients of all parameters.

        Returns
        -------
        scores : ndarray (N, num_classes)
            If y is None; nothing is dropped then, and batch norm uses its running statistics.
        loss, grads : float, dict
            Otherwise.
        """
        X = np.asarray(X, dtype=self.dtype)
        train = y is not None
        set_mode(self.bn_params, train)

        hidden, caches = X, []
        for i in range(1, self.num_layers):
            hidden, layer_cache = self._hidden_forward(i, hidden)
            dropout_cache = None
            if self.dropout > 0 and train:
                dropout_param = {"p": self.dropout, "mode": "train"}
                set_mask_seed(dropout_param, self, X, i)
                hidden, dropout_cache = dropout_forward(hidden, dropout_param)
            caches.append((layer_cache, dropout_cache))
        last = self.num_layers
        scores, cache = affine_forward(hidden, self.params[f"W{last}"], self.params[f"b{last}"])
        if not train:
            return scores

        loss, dscores = smoothed_softmax_loss(scores, y, self.label_smoothing)
        grads = {}
        dhidden, grads[f"W{last}"], grads[f"b{last}"] = affine_backward(dscores, cache, needs=_needs(last))
        for i in range(last - 1, 0, -1):
            layer_cache, dropout_cache = caches[i - 1]
            if dropout_cache is not None:
                dhidden = dropout_backward(dhidden, dropout_cache)
            dhidden = self._hidden_backward(i, dhidden, layer_cache, grads)
        return loss + add_l2(self.params, grads, self.reg), grads

    def _hidden_forward(self, i, x):
        w, b = self.params[f"W{i}"], self.params[f"b{i}"]
        if self.use_batchnorm:
            gamma, beta = self.params[f"gamma{i}"], self.params[f"beta{i}"]
            return affine_bn_relu_forward(x, w, b, gamma, beta, self.bn_params[i - 1])
        return affine_relu_forward(x, w, b)

    def _hidden_backward(self, i, dout, cache, grads):
        """Write the gradients of layer i into `grads`; return that of its input."""
        if self.use_batchnorm:
            dx, *grads_of_layer = affine_bn_relu_backward(dout, cache, needs=_needs(i))
            names = (f"W{i}", f"b{i}", f"gamma{i}", f"beta{i}")
        else:
            dx, *grads_of_layer = affine_relu_backward(dout, cache, needs=_needs(i))
            names = (f"W{i}", f"b{i}")
        grads.update(zip(names, grads_of_layer, strict=True))
        return dx


def _needs(i):
    """Gradients that layer i has to deliver: nothing asks the first one for dx."""
    return ("dw", "db") if i == 1 else None


def _image_size(where, input_dim):
    """`input_dim` as C, H, W, large enough for a 2x2 pool."""
    if np.ndim(input_dim) != 1 or len(input_dim) != 3:
        raise ValueError(f"{where}: input_dim must be (C, H, W), got {input_dim!r}")
    C, H, W = (positive_int(where, "input_dim", size) for size in input_dim)
    if min(H, W) < 2:
        raise ValueError(
            f"{where}: a 2x2 pool needs images of at least 2x2 pixels, got input_dim {input_dim!r}"
        )
    return C, H, W
