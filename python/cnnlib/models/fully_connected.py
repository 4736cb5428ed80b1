"""FullyConnectedNet: a network of affine layers."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import DTypeLike

from cnnlib._params import choice, flag, number, positive_int, probability, real_dtype, type_name
from cnnlib._params.random import random_stream
from cnnlib._system.text import shape_text
from cnnlib.graph.shapes import checked_dim, refuse_other_images
from cnnlib.models.graph_model import GraphModel, described, keeps_arguments
from cnnlib.models.spec.builder import Builder
from cnnlib.models.state import check_state_fits, restore


class FullyConnectedNet(GraphModel):
    """{affine - [batch or layer norm] - relu - [dropout]} for each hidden layer, then affine - softmax.

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
    normalization : 'batchnorm', 'layernorm' or None
        The norm between each hidden affine layer and its relu.

    Attributes
    ----------
    params : dict
        For layer i = 1 .. L: ``Wi`` (fan_in, fan_out), ``bi`` (fan_out,); with a norm ``gammai``,
        ``betai`` (fan_out,) for each but the last.
    bn_params : list of dict
        One for each batch norm; holds the running statistics, which begin as mean 0 and variance 1. Empty
        without batch norm.
    label_smoothing : float
        Share of each label's probability that is spread over all classes, as in
        :class:`cnnlib.models.ConvNet`; 0 at first.

    Raises
    ------
    ValueError, TypeError
        For sizes below 1, ``dropout`` outside [0, 1), negative ``reg`` or ``weight_scale``, another dtype or
        norm, two settings that say the same thing differently.

    Examples
    --------
    >>> model = FullyConnectedNet([100, 50], input_dim=(1, 8, 8), normalization="layernorm", seed=0)
    >>> model
    FullyConnectedNet(64 -> 100 -> 50 -> 10, layernorm, float32, 12,360 parameters)
    >>> model.loss(np.zeros((2, 1, 8, 8))).shape
    (2, 10)
    """

    _first_mask = 1

    @keeps_arguments
    def __init__(
        self,
        hidden_dims: Iterable[int],
        input_dim: int | Sequence[int] = 3 * 32 * 32,
        num_classes: int = 10,
        dropout: float = 0,
        use_batchnorm: bool = False,
        reg: float = 0.0,
        weight_scale: float = 1e-2,
        dtype: DTypeLike = np.float32,
        seed: int | None = None,
        *,
        normalization: str | None = None,
    ) -> None:
        where = type(self).__name__
        self.dtype = real_dtype(where, dtype)
        self.reg = number(where, "reg", reg, 0)
        self.dropout = _dropped(where, dropout)
        self.normalization = _normalization(where, use_batchnorm, normalization)
        self.use_batchnorm = self.normalization == "batchnorm"
        self.seed = seed
        scale = number(where, "weight_scale", weight_scale, 0)
        random = random_stream(seed, where)

        self._input_dim = checked_dim(where, input_dim)
        D = math.prod(self._input_dim)
        if not isinstance(hidden_dims, Iterable):
            raise TypeError(f"{where}: hidden_dims must be a list of integers, got {type_name(hidden_dims)}")
        hidden = [positive_int(where, "hidden_dims", d) for d in hidden_dims]
        sizes = [D, *hidden, positive_int(where, "num_classes", num_classes)]
        self.num_layers = len(sizes) - 1

        norm = [self.normalization] if self.normalization else []
        drop = [{"dropout": self.dropout}] if self.dropout > 0 else []
        builder = Builder((D,), random, scale, self.dtype)
        for size in hidden:
            builder.walk([{"affine": size, "bias": True}, *norm, "relu", *drop])
        builder.walk([{"affine": sizes[-1]}])
        self._take(builder)

    def __repr__(self) -> str:
        sizes = [self.params[f"W{i}"].shape[0] for i in range(1, self.num_layers + 1)]
        sizes.append(self.params[f"W{self.num_layers}"].shape[1])
        return described(
            self,
            " -> ".join(map(str, sizes)),
            self.normalization,
            f"dropout {self.dropout:g}" if self.dropout > 0 else None,
        )

    def check_samples(self, where: str, name: str, shape: tuple[int, ...]) -> None:
        refuse_other_images(where, shape, self._input_dim, name)
        D = math.prod(self._input_dim)
        if len(shape) < 1 or math.prod(shape[1:]) != D:
            wanted = f" of {shape_text(self._input_dim)}" if len(self._input_dim) > 1 else ""
            raise ValueError(f"{where}: {name} must have {D} values{wanted} a sample, got shape {shape}")

    def load(self, path: str | os.PathLike[str]) -> None:
        """Take over the parameters and statistics that :meth:`save` wrote of a network of the same sizes.

        The course's notebooks call it; :func:`cnnlib.load` gives the network itself.

        Raises
        ------
        ValueError
            If the file is damaged, or was written for another network; this one has not changed then.
        OSError
            If it cannot be read.
        """
        from cnnlib.saved_model.model_file import read_state  # which knows the classes of models

        state = read_state(path)
        check_state_fits(os.fspath(path), self, state)
        restore(self, state)


def _dropped(where, dropout):
    """The probability of dropping a value."""
    if dropout == 1:
        raise ValueError(
            f"{where}: dropout must be below 1, got {dropout}: it is the share that is dropped; "
            "cnnlib.course.keep_ratio has the network whose argument is the share that is kept"
        )
    return probability(where, "dropout", dropout)


def _normalization(where, use_batchnorm, normalization):
    """'batchnorm', 'layernorm' or None."""
    if normalization is not None:
        choice(where, "normalization", normalization, ("batchnorm", "layernorm"))
    if not flag(where, "use_batchnorm", use_batchnorm):
        return normalization
    if normalization == "layernorm":
        raise ValueError(f"{where}: use_batchnorm=True and normalization='layernorm' differ")
    return "batchnorm"
