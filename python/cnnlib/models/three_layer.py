"""ThreeLayerConvNet: the course's convolutional network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from cnnlib._params import number, positive_int, real_dtype
from cnnlib._params.random import random_stream
from cnnlib._system.text import shape_text
from cnnlib.graph.shapes import check_samples, checked_dim
from cnnlib.models.graph_model import GraphModel, described, keeps_arguments
from cnnlib.models.spec.builder import Builder


class ThreeLayerConvNet(GraphModel):
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
        Of the two batch norms; holds the running statistics, which begin as mean 0 and variance 1. Empty
        without batch norm.
    label_smoothing : float
        Share of each label's probability that is spread over all classes, as in
        :class:`cnnlib.models.ConvNet`; 0 at first.

    Raises
    ------
    ValueError, TypeError
        For sizes below 1, images too small to pool, negative ``reg`` or ``weight_scale``, or another dtype.

    Examples
    --------
    >>> model = ThreeLayerConvNet(input_dim=(1, 8, 8), num_filters=4, filter_size=3, seed=0)
    >>> model
    ThreeLayerConvNet(1x8x8, 4 filters 3x3, 100 hidden -> 10, float32, 7,550 parameters)
    >>> loss, grads = model.loss(np.zeros((2, 1, 8, 8)), [0, 9])
    >>> f"{loss:.4f}", sorted(grads)
    ('2.3026', ['W1', 'W2', 'W3', 'b1', 'b2', 'b3'])
    """

    @keeps_arguments
    def __init__(
        self,
        input_dim: Sequence[int] = (3, 32, 32),
        num_filters: int = 32,
        filter_size: int = 7,
        hidden_dim: int = 100,
        num_classes: int = 10,
        weight_scale: float = 1e-3,
        reg: float = 0.0,
        dtype: DTypeLike = np.float32,
        use_batchnorm: bool = False,
        seed: int | None = None,
    ) -> None:
        where = "ThreeLayerConvNet"
        self.dtype = real_dtype(where, dtype)
        self.reg = number(where, "reg", reg, 0)
        self.use_batchnorm = bool(use_batchnorm)
        self.input_dim = _image_size(where, input_dim)
        F = positive_int(where, "num_filters", num_filters)
        size = positive_int(where, "filter_size", filter_size)
        hidden = positive_int(where, "hidden_dim", hidden_dim)
        classes = positive_int(where, "num_classes", num_classes)
        scale = number(where, "weight_scale", weight_scale, 0)
        random = random_stream(seed, where)

        norm = ["batchnorm"] if self.use_batchnorm else []
        pool = {"max_pool": 2, "stride": 2}
        builder = Builder(self.input_dim, random, scale, self.dtype)
        builder.walk([{"conv": F, "size": size, "bias": True}, *norm, "relu", pool])
        builder.walk([{"affine": hidden, "bias": True}, *norm, "relu", {"affine": classes}])
        self._take(builder)

    def __repr__(self) -> str:
        F, _, KH, KW = self.params["W1"].shape
        hidden, classes = self.params["W3"].shape
        return described(
            self,
            shape_text(self.input_dim),
            f"{F} filters {KH}x{KW}",
            f"{hidden} hidden -> {classes}",
            "batchnorm" if self.use_batchnorm else None,
        )

    def check_samples(self, where: str, name: str, shape: tuple[int, ...]) -> None:
        check_samples(where, shape, self.input_dim, "the hidden layer, W2", name)


def _image_size(where, input_dim):
    """`input_dim` as C, H, W, large enough for a 2x2 pool."""
    sizes = checked_dim(where, input_dim)
    if len(sizes) != 3:
        raise ValueError(f"{where}: input_dim must be (C, H, W), got {input_dim!r}")
    if min(sizes[1:]) < 2:
        raise ValueError(
            f"{where}: a 2x2 pool needs images of at least 2x2 pixels, got input_dim {input_dim!r}"
        )
    return sizes
