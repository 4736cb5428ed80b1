"""ConvNet: a deep network from a readable list of stages."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from cnnlib._params import number, positive_int, real_dtype
from cnnlib._params.random import random_stream
from cnnlib._system.text import shape_text
from cnnlib._typing import Array
from cnnlib.graph.shapes import checked_dim
from cnnlib.models.graph_model import described, keeps_arguments
from cnnlib.models.graph_net import _HEAD_SCALE, GraphNet
from cnnlib.models.spec.builder import Builder
from cnnlib.models.spec.filters import whitening_filters
from cnnlib.models.spec.reading import HEADS, resolve, split_head
from cnnlib.models.summary import table

_WHITENING_IMAGES = 5000
_IMAGE_AXES = 3  # of a sample: channels, height, width
_COLOUR_CHANNELS = (1, 3)
_USUAL_SIZE = 3  # of filters
# Stages that may stand behind a layer that hides features, and have no weights that make others of these.
_ACTIVATIONS = (
    *("relu", "relu6", "leaky_relu", "elu", "gelu", "silu", "sigmoid", "tanh", "hard_sigmoid", "hard_swish"),
    *("batchnorm", "layernorm", "dropout", "scale"),
)


class ConvNet(GraphNet):
    """A network of the stages in `spec`, then its head: class scores, numbers, or a map of pixels.

    Parameters
    ----------
    spec : list or str
        One entry for each stage, or the name of a ready one: a key of ``cnnlib.models.NAMED_SPECS``
        ('three-layer', 'vgg-small', 'resnet8', 'resnet20', 'mobile-small', and for pixels 'unet' and
        'autoencoder', whose images have heights and widths that 4 divides). An entry is a name, or a dict
        whose first key names the stage and whose other keys are options:

        - ``{'conv': F, 'size': 3, 'stride': 1, 'pad': 'same', 'dilation': 1, 'groups': 1, 'bias': ...}``: F
          filters of `size` (an int or (height, width)). `bias` defaults to True, but to False right
          before a batch norm, which would take it out again; so it does below. ``'init': 'dirac'`` makes
          the first filters pass on a channel each; ``'init': 'whiten'``, for a first convolution, sets them
          by the images (see :meth:`initialize`). ``'frozen': True`` keeps filters and biases out of the
          training, ``'frozen': 'filters'`` the filters.
        - ``{'depthwise': 3, 'stride': 1, 'multiplier': 1, ...}``: a 3x3 filter (or `multiplier` of them)
          for each channel alone; `pad`, `dilation`, `bias` as for conv.
        - ``{'affine': M, 'bias': ...}``: images are flattened.
        - ``'batchnorm'`` or ``{'batchnorm': None, 'momentum': 0.9, 'eps': 1e-5, 'scale': True}``, per
          channel of images; without `scale` the gammas stay 1. ``{'groupnorm': G, 'eps': 1e-5}``,
          ``'instancenorm'``, and ``'layernorm'`` over the channels of each pixel, or over a row's features.
        - ``{'conv_transpose': F, 'size': 3, 'stride': 1, 'pad': 0, 'output_pad': 0, ...}``; `dilation`,
          `groups`, `bias` as for conv.
        - ``'relu'``, ``'relu6'``, ``'sigmoid'``, ``'tanh'``, ``'silu'``, ``'hard_sigmoid'``,
          ``'hard_swish'``, ``'softmax'`` over the channels; ``'leaky_relu'`` or ``{'leaky_relu': slope}``,
          ``'elu'`` or ``{'elu': alpha}``, ``'gelu'`` or ``{'gelu': 'tanh'}``; ``{'scale': factor}``.
        - ``{'max_pool': 2, 'stride': ..., 'pad': 0, 'ceil_mode': False}``, ``{'avg_pool': ...}`` with
          `count_include_pad`, ``'global_avg_pool'``, ``'global_max_pool'``; ``{'adaptive_avg_pool': size}``
          and ``{'adaptive_max_pool': size}`` for an output of that size from any input.
        - ``{'upsample': factor, 'mode': 'nearest', 'align_corners': False}``, or 'bilinear'.
        - ``{'dropout': p}``: drops with probability p.
        - ``{'residual': [stages], 'shortcut': [stages]}``: the sum of both branches. Without a `shortcut`
          that is the identity, or, where the body changes the shape, a strided 1x1 convolution with
          batch norm (He et al. 2015, arXiv:1512.03385, option B). A relu behind
          the sum is a stage of its own.
        - ``{'concat': [branch, ...]}``, ``{'add': [...]}``, ``{'multiply': [...]}``: what two or more
          branches make, joined along the channels, added, or multiplied. A branch is a list of stages, which
          begins where the branches part (an empty one hands that on), or the name of an earlier stage.
          Behind the first summand or factor, a value for each channel is spread over the images.

        Any stage may have a ``'name': '...'``, and a stage with ``'from': '...'`` reads what that one made,
        in place of the stage before it; ``'input'`` are the images.

        The last entry may be the head, which otherwise is ``'classes'``: an affine layer to scores (N,
        num_classes); ``'values'``, the same for numbers to be regressed; ``'pixels'``, a 1x1 convolution to
        (N, num_classes, H, W): scores for each pixel, or the channels of an image. ``{'values': 3}`` says the
        number there, in place of `num_classes`. A last ``{'affine': num_classes}`` is the head's own layer.

    input_dim : (int, int, int)
        C, H, W of the images; or (D,) for a net without images. Where a global or adaptive pool stands
        before the affine layers, :meth:`loss` takes images of any other H and W too.
    num_classes : int
        How many scores, numbers or channels the head gives.
    reg : float
        Strength of L2 regularisation: ``reg / 2 * sum(W**2)``, summed over the ``W*``, is added to the loss.
    weight_scale : float or None
        Standard deviation of the normally distributed initial weights; None: ``sqrt(2 / fan_in)`` for each
        layer (He et al. 2015, arXiv:1502.01852) and 0.01 for the last.
    dtype : np.float32 or np.float64
    seed : int or None
        Governs the weights and the dropout masks as in :class:`cnnlib.models.FullyConnectedNet`.

    Attributes
    ----------
    params : dict
        ``W1 b1 W2 b2 ...`` in the order of the convolutions and affine layers (in a residual block the body
        first), and ``gamma1 beta1 ...`` in the order of the norms.
    frozen : tuple of str
        The names of the parameters that are not trained: :meth:`loss` gives no gradient of them.
    bn_params : list of dict
        Of the batch norms; holds the running statistics, which begin as mean 0 and variance 1.
    head : str
        'classes', 'values' or 'pixels'.
    label_smoothing : float
        Share of each label's probability that is spread evenly over all classes (Szegedy et al. 2015,
        arXiv:1512.00567); 0 at first.
    num_params, multiply_adds : int
        Of the whole network; multiply-adds of convolutions and affine layers for one image, forward.

    Raises
    ------
    ValueError, TypeError
        For a spec that cannot be built: the message names the stage, and the nearest known name if one
        is unknown. For settings out of range.

    Examples
    --------
    >>> net = ConvNet([{"conv": 16}, "batchnorm", "relu", {"max_pool": 2}, {"dropout": 0.2}], (1, 8, 8), 10)
    >>> net
    ConvNet(1x8x8 -> 10, 2 layers with weights, float32, 2,746 parameters)
    >>> print(net.summary())
    stage         output  parameters  multiply-adds
    -----------------------------------------------
    input         1x8x8
    conv 16 3x3   16x8x8         144          9,216
    batchnorm     16x8x8          32
    relu          16x8x8
    max_pool 2x2  16x4x4
    dropout 0.2   16x4x4
    affine 10     10           2,570          2,560
    -----------------------------------------------
    total                      2,746         11,776

    A layer of a DenseNet keeps its input and adds channels to it; an Inception module joins convolutions of
    several sizes; squeeze and excitation weighs the channels by what small layers make of their means:

    >>> dense = {"concat": [[], ["batchnorm", "relu", {"conv": 12}]]}
    >>> inception = {"concat": [[{"conv": 8, "size": 1}, "relu"], [{"conv": 8, "size": 5}, "relu"]]}
    >>> excite = {"multiply": [[], ["global_avg_pool", {"affine": 4}, "relu", {"affine": 16}, "sigmoid"]]}
    >>> net = ConvNet([dense, dense, inception, excite, "global_avg_pool"], (3, 32, 32), 10)
    >>> net.loss(np.zeros((1, 3, 20, 48))).shape
    (1, 10)

    A network for masks of three classes, and one for two numbers:

    >>> ConvNet("unet", (3, 32, 32), 3).loss(np.zeros((1, 3, 64, 40))).shape
    (1, 3, 64, 40)
    >>> ConvNet([{"conv": 8}, "relu", "global_avg_pool", {"values": 2}], (3, 32, 32))
    ConvNet(3x32x32 -> 2, 2 layers with weights, float32, 242 parameters)
    """

    @keeps_arguments
    def __init__(
        self,
        spec: str | Iterable[str | Mapping[str, Any]],
        input_dim: int | Sequence[int] = (3, 32, 32),
        num_classes: int = 10,
        *,
        reg: float = 0.0,
        weight_scale: float | None = None,
        dtype: DTypeLike = np.float32,
        seed: int | None = None,
    ) -> None:
        where = "ConvNet"
        self.spec = copy.deepcopy(resolve(spec))
        self._name = spec if isinstance(spec, str) else None
        input_dim = checked_dim(where, input_dim)
        if len(input_dim) not in (1, 3):
            raise ValueError(f"{where}: input_dim must be (C, H, W) or (D,), got {input_dim!r}")
        body, self.head, size = split_head(self.spec)
        if size is None:
            num_classes = positive_int(where, "num_classes", num_classes)
        else:
            num_classes = positive_int(where, self.head, size)
        reg = number(where, "reg", reg, 0)
        dtype = real_dtype(where, dtype)
        if weight_scale is not None:
            weight_scale = number(where, "weight_scale", weight_scale, 0)

        self._size = num_classes
        _refuse_softmax(self.spec)
        body, last = _with_last(body, self.head, num_classes)
        builder = Builder(input_dim, random_stream(seed, where), weight_scale, dtype)
        self._stages = builder.walk(body)
        if weight_scale is None:
            builder.weight_scale = _HEAD_SCALE
        self._stages += builder.walk([last], "head")
        if self._name is None:
            _warn_of_doubts(self.spec, body, input_dim, num_classes)
        self._whitening = builder.whitening
        super().__init__(
            builder.graph,
            builder.params,
            input_dim,
            num_classes=None if self.head == "pixels" else num_classes,
            frozen=builder.frozen,
            reg=reg,
            dtype=dtype,
            seed=seed,
        )

    def __repr__(self) -> str:
        depth = sum(name.startswith("W") for name in self.params)
        return described(
            self,
            repr(self._name) if self._name else None,
            f"{shape_text(self.input_dim)} -> {self._size}{' a pixel' if self.head == 'pixels' else ''}",
            f"{depth} layers with weights" if depth > 1 else "1 layer with weights",
        )

    def initialize(self, X: Array, eps: float = 5e-4) -> None:
        """Set the weights that depend on training images X (N, C, H, W), where they have not been set yet.

        These are filters with ``'init': 'whiten'``: the eigenvectors of the covariance of X's patches, each
        divided by ``sqrt(eigenvalue + eps)``, and the same with the opposite sign (Jordan 2024,
        arXiv:2404.00498, section 3.2). The first 5000 images are enough. A Solver calls this.
        """
        name = self._whitening
        if name is None or self.is_initialized():
            return
        X = self._samples(X[:_WHITENING_IMAGES])
        self.params[name] = whitening_filters(X, self.params[name], number("ConvNet", "eps", eps, 0))

    def summary(self) -> str:
        """A table (str): for each stage the output's shape, parameters, and multiply-adds for one image."""
        return table(self._stages, self.input_dim, self.num_params, self.multiply_adds)


def _refuse_softmax(spec: Any) -> None:
    """ValueError for a softmax at the end of a spec that names no head: the loss has one of its own."""
    last = spec[-1] if isinstance(spec, (list, tuple)) and spec else None
    if last in ("softmax", {"softmax": None}):
        raise ValueError(
            f"ConvNet: stage {len(spec)} (softmax): a network ends in scores, of which its loss and "
            "predict_proba make probabilities: leave it out, or name the head that is to come behind it, "
            "'classes'"
        )


def _warn_of_doubts(spec: list[Any], body: Any, input_dim: tuple[int, ...], outputs: int) -> None:
    """Warn of an affine layer that looks like the last one and is not, and of channels that come last."""
    if len(input_dim) == _IMAGE_AXES:
        C, H, W = input_dim
        if C == H > W and W in _COLOUR_CHANNELS:
            _warn(
                f"input_dim {input_dim} is {C} channels of {H}x{W} pixels; if the channels come last, say "
                f"({W}, {C}, {H}), and X.transpose(0, 3, 1, 2)"
            )
        elif (H == 1) != (W == 1):
            doubt = _about_square_filters(body, H, W)
            if doubt is not None:
                _warn(doubt)
    if spec and spec[-1] in HEADS:  # named on purpose
        return
    names = [stage if isinstance(stage, str) else next(iter(stage)) for stage in body]
    behind = next((k for k, name in enumerate(reversed(names)) if name not in _ACTIVATIONS), len(names))
    stage = body[-1 - behind] if behind < len(names) else None
    size = stage.get("affine") if isinstance(stage, Mapping) else None
    place = f"stage {len(names) - behind} (affine {size})"
    if size is None or (behind and size != outputs):
        return
    if behind:
        _warn(
            f"{place} is not the last layer, because of the {names[-1]} behind it: another affine layer "
            f"makes the scores of {outputs} classes. Leave out what follows, or name the head, 'classes'"
        )
    else:
        _warn(
            f"{place} is not the last layer: another one makes the scores of num_classes={outputs} classes. "
            f"Say num_classes={size}, or put an activation behind it"
        )


def _about_square_filters(body: Any, H: int, W: int) -> str | None:
    """Name the first stage whose filters are higher or wider than a signal, which is one pixel there."""
    for place, stage in enumerate(body, start=1):
        size = stage.get("size", _USUAL_SIZE) if isinstance(stage, Mapping) and "conv" in stage else 1
        if isinstance(size, int) and size > 1:
            along = (1, size) if H == 1 else (size, 1)
            return (
                f"stage {place} (conv): filters of {size}x{size} on images of {H}x{W} see little but padding "
                f"across; 'size': {along} goes along the signal alone"
            )
    return None


def _warn(text: str) -> None:
    """Warn behind whoever made the network: `__init__`, and what keeps its arguments, lie between."""
    warnings.warn(f"ConvNet: {text}", UserWarning, stacklevel=5)


def _with_last(body: Any, head: str, outputs: int) -> tuple[Any, Any]:
    """Split the head's layer from the stages, among which it may stand as the last one."""
    if head == "pixels":
        return body, {"conv": outputs, "size": 1}
    last = body[-1] if isinstance(body, list) and body else None
    if isinstance(last, Mapping) and last.get("affine") == outputs and not {"name", "from"} & last.keys():
        return body[:-1], last
    return body, {"affine": outputs}
