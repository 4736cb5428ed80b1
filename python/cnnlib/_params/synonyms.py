"""Names of other libraries, and where to look for them here: what messages about unknown names suggest."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping

_LIKENESS = 0.5  # from 0 to 1, of an unknown name to a known one: above it is taken for a slip

# Other words, in small letters without underscores, and ours; the first of ours that is known counts.
SYNONYMS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("dense", "linear", "fc", "fullyconnected", "gemm"), ("affine",)),
    **dict.fromkeys(("bn", "batchnormalization"), ("batchnorm",)),
    **dict.fromkeys(("ln", "layernormalization"), ("layernorm",)),
    **dict.fromkeys(("gn", "groupnormalization"), ("groupnorm",)),
    **dict.fromkeys(("convolution", "convolutional"), ("conv",)),
    **dict.fromkeys(("deconv", "deconvolution", "convtransposed", "transposedconv"), ("conv_transpose",)),
    **dict.fromkeys(("separableconv", "depthwiseconv", "dwconv"), ("depthwise",)),
    **dict.fromkeys(("pool", "pooling", "maxpooling"), ("max_pool",)),
    **dict.fromkeys(("averagepool", "averagepooling", "meanpool"), ("avg_pool",)),
    **dict.fromkeys(("gap", "globalavgpooling", "globalaveragepooling", "globalpool"), ("global_avg_pool",)),
    **dict.fromkeys(("swish",), ("silu",)),
    **dict.fromkeys(("lrelu",), ("leaky_relu",)),
    **dict.fromkeys(("skip", "resblock", "shortcut"), ("residual",)),
    **dict.fromkeys(("concatenate", "cat"), ("concat",)),
    **dict.fromkeys(("mul",), ("multiply",)),
    **dict.fromkeys(("interpolate", "resize", "unpool", "unpooling"), ("upsample",)),
    **dict.fromkeys(("kernel", "kernelsize", "filtersize", "poolsize", "window"), ("size",)),
    **dict.fromkeys(("padding",), ("pad",)),
    **dict.fromkeys(("strides",), ("stride",)),
    **dict.fromkeys(("usebias",), ("bias",)),
    **dict.fromkeys(("rate", "dilationrate"), ("dilation",)),
    **dict.fromkeys(("lr",), ("learning_rate",)),
    **dict.fromkeys(("epsilon",), ("eps",)),
    **dict.fromkeys(("momentum",), ("sgd_momentum",)),
    **dict.fromkeys(("crossentropyloss", "categoricalcrossentropy", "nll", "nllloss"), ("softmax",)),
    **dict.fromkeys(("sparsecategoricalcrossentropy", "logloss"), ("softmax",)),
    **dict.fromkeys(("binarycrossentropy", "bcewithlogits", "logistic"), ("bce",)),
    **dict.fromkeys(("hinge",), ("svm",)),
    **dict.fromkeys(("l2", "squared", "squarederror"), ("mse",)),
    **dict.fromkeys(("meansquarederror", "mse"), ("mse", "rmse")),
    **dict.fromkeys(("meanabsoluteerror", "absoluteerror"), ("l1", "mae")),
    **dict.fromkeys(("smoothl1",), ("huber",)),
    **dict.fromkeys(("jaccard", "miou", "meaniou"), ("iou",)),
    **dict.fromkeys(("acc",), ("accuracy",)),
    **dict.fromkeys(("cosineannealing", "cosinedecay"), ("cosine",)),
    **dict.fromkeys(("horizontalflip", "mirror"), ("flip",)),
    **dict.fromkeys(("optimizer", "optim", "rule"), ("update_rule",)),
    **dict.fromkeys(("criterion", "lossfunction", "lossfn"), ("loss",)),
    **dict.fromkeys(("epochs", "nepochs", "maxepochs", "maxiter"), ("num_epochs",)),
    **dict.fromkeys(("patience",), ("early_stopping",)),
    **dict.fromkeys(("randomstate", "randomseed"), ("seed",)),
    **dict.fromkeys(("callback", "callbacks"), ("on_epoch",)),
    **dict.fromkeys(("gradclip", "clipgradnorm", "clipnorm", "maxgradnorm"), ("clip_norm",)),
    **dict.fromkeys(("scheduler", "lrschedule", "lrscheduler"), ("schedule",)),
    **dict.fromkeys(("learningratedecay",), ("lr_decay",)),
    **dict.fromkeys(("shuffle",), ("sampling",)),
    **dict.fromkeys(("ema",), ("ema_decay",)),
}


def nearest(name: str, known: Collection[str]) -> str | None:
    """Return the known name that an unknown one may stand for; None if there is none.

    That is one which differs by capitals and underscores alone, else what others call it, else one that is
    spelt much like it.

    Examples
    --------
    >>> [nearest(name, ["affine", "relu", "batchnorm"]) for name in ("ReLU", "Linear", "BatchNorm2d")]
    ['relu', 'affine', 'batchnorm']
    """
    plain = {_plain(one): one for one in known}
    for word in (_plain(name), _plain(name).removesuffix("d").rstrip("123")):
        found = [plain.get(word), *(one for one in SYNONYMS.get(word, ()) if one in known)]
        if (best := next((one for one in found if one is not None), None)) is not None:
            return best
    near = difflib.get_close_matches(_plain(name), plain, 1, _LIKENESS)
    return plain[near[0]] if near else None


def advised(name: str, elsewhere: Mapping[str, str]) -> str | None:
    """Return what `elsewhere` says of a name, whatever its capitals and underscores; None if nothing."""
    return next((text for one, text in elsewhere.items() if _plain(one) == _plain(name)), None)


def _plain(name: str) -> str:
    """The name in small letters, without what separates its words."""
    return "".join(letter for letter in name.lower() if letter.isalnum() or not letter.isascii())
