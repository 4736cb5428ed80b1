"""Dropout for the years in which the course's parameter is the share that is kept.

That is 2018 and later: `p` in ``dropout_param``, and the fourth argument of ``FullyConnectedNet``, called
`dropout` until 2020 and `dropout_keep_ratio` since. In 2017, and elsewhere in cnnlib, they are the share
that is dropped. To be imported behind :mod:`cnnlib.models`, whose names these two replace.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import DTypeLike

from cnnlib import layers, models
from cnnlib._params import check_keys, number
from cnnlib._typing import Array, ArrayLike, Cache
from cnnlib.models.graph_model import keeps_arguments
from cnnlib.typing import DropoutParam

__all__ = ["FullyConnectedNet", "dropout_forward"]


def dropout_forward(x: ArrayLike, dropout_param: DropoutParam) -> tuple[Array, Cache]:
    """
    Keep each element with probability p, divided by p, and zero the others (inverted dropout).

    Parameters
    ----------
    x : array of any shape
    dropout_param : dict
        `p`: the probability to keep, in [0, 1], required. `mode` and `seed` as in
        :func:`cnnlib.layers.dropout_forward`.

    Returns
    -------
    out : array of the shape of x
    cache : tuple
        (dropout_param, mask), for `dropout_backward`.

    Raises
    ------
    KeyError, ValueError, TypeError
        As in :func:`cnnlib.layers.dropout_forward`.

    Examples
    --------
    >>> out, _ = dropout_forward(np.ones(100000), {"mode": "train", "p": 0.25, "seed": 0})
    >>> round(float(np.mean(out == 0)), 2), float(out.max())
    (0.75, 4.0)
    """
    function = "dropout_forward"
    check_keys(function, "dropout_param", dropout_param, ("p", "mode", "seed"), required=("p", "mode"))
    drop = 1 - number(function, "p", dropout_param["p"], 0, 1)
    out, (_, mask) = layers.dropout_forward(x, {**dropout_param, "p": drop})
    return out, (dropout_param, mask)


class FullyConnectedNet(models.FullyConnectedNet):
    """:class:`cnnlib.models.FullyConnectedNet` with the arguments, and their order, of 2018 and later.

    Parameters
    ----------
    hidden_dims, input_dim, num_classes, reg, weight_scale, dtype, seed
        As there.
    dropout_keep_ratio : float
        Probability of keeping a hidden value, in (0, 1]; 1 for no dropout.
    normalization : 'batchnorm', 'layernorm' or None
        The norm between each hidden affine layer and its relu.
    dropout : float or None
        The name that `dropout_keep_ratio` had until 2020.

    Raises
    ------
    ValueError, TypeError
        As there, and for both `dropout` and `dropout_keep_ratio`.

    Examples
    --------
    >>> FullyConnectedNet([500], dropout=0.25)
    FullyConnectedNet(3072 -> 500 -> 10, dropout 0.75, float32, 1,541,510 parameters)
    """

    @keeps_arguments
    def __init__(
        self,
        hidden_dims: Iterable[int],
        input_dim: int | Sequence[int] = 3 * 32 * 32,
        num_classes: int = 10,
        dropout_keep_ratio: float = 1,
        normalization: str | None = None,
        reg: float = 0.0,
        weight_scale: float = 1e-2,
        dtype: DTypeLike = np.float32,
        seed: int | None = None,
        *,
        dropout: float | None = None,
    ) -> None:
        if dropout is not None:
            if dropout_keep_ratio != 1:
                raise ValueError("FullyConnectedNet: dropout and dropout_keep_ratio exclude each other")
            dropout_keep_ratio = dropout
        where = "FullyConnectedNet"
        keep = number(where, "dropout_keep_ratio", dropout_keep_ratio, 0, 1)
        if keep == 0:
            raise ValueError(f"{where}: dropout_keep_ratio must be above 0, got {dropout_keep_ratio}")
        super().__init__(
            hidden_dims,
            input_dim,
            num_classes,
            dropout=1 - keep,
            reg=reg,
            weight_scale=weight_scale,
            dtype=dtype,
            seed=seed,
            normalization=normalization,
        )
