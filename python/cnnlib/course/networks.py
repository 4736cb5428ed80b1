"""Networks that only the course has."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from cnnlib.models import FullyConnectedNet
from cnnlib.models.graph_model import keeps_arguments


class TwoLayerNet(FullyConnectedNet):
    """affine - relu - affine - softmax, in float64.

    It is a :class:`cnnlib.models.FullyConnectedNet` with one hidden layer.

    Parameters
    ----------
    input_dim : int or sequence of int
        Size D of an input, or its shape; inputs (N, d1, ..., dk) are flattened.
    hidden_dim, num_classes : int
    weight_scale, reg, dtype, seed
        As in :class:`cnnlib.models.FullyConnectedNet`; the course's checks of this network need float64.

    Attributes
    ----------
    params : dict
        ``W1`` (D, hidden_dim), ``b1`` (hidden_dim,), ``W2`` (hidden_dim, num_classes), ``b2`` (num_classes,).

    Raises
    ------
    ValueError, TypeError
        As in :class:`cnnlib.models.FullyConnectedNet`.

    Examples
    --------
    >>> net = TwoLayerNet(input_dim=4, hidden_dim=3, num_classes=2, weight_scale=0, seed=0)
    >>> loss, grads = net.loss(np.ones((5, 4)), np.zeros(5, int))
    >>> round(float(loss), 3), sorted(grads)
    (0.693, ['W1', 'W2', 'b1', 'b2'])
    """

    @keeps_arguments
    def __init__(
        self,
        input_dim: int | Sequence[int] = 3 * 32 * 32,
        hidden_dim: int = 100,
        num_classes: int = 10,
        weight_scale: float = 1e-3,
        reg: float = 0.0,
        dtype: DTypeLike = np.float64,
        seed: int | None = None,
    ) -> None:
        super().__init__(
            [hidden_dim], input_dim, num_classes, reg=reg, weight_scale=weight_scale, dtype=dtype, seed=seed
        )
