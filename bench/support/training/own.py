"""A training step of a ready network in cnnlib alone."""

from __future__ import annotations

import numpy as np

from support import timing

NETWORKS = ("three-layer", "vgg-small", "resnet20", "mobile-small")
RULES = ("sgd_momentum", "sgd_nesterov_momentum", "adam")
OF_PIXELS = ("unet",)  # what gives scores of pixels
INPUT_DIM, CLASSES = (3, 32, 32), 10
RATE = 1e-3


def model(name, dtype, dropout=True, explicit=list):
    """A network of NETWORKS or OF_PIXELS, with the same weights at every call; without `dropout` also the
    same loss. `explicit` changes its spec.
    """
    import cnnlib.models
    from cnnlib.models import NAMED_SPECS

    if name == "three-layer":
        return cnnlib.models.ThreeLayerConvNet(INPUT_DIM, weight_scale=1e-2, dtype=dtype, seed=0)
    stages = [
        stage
        for stage in NAMED_SPECS[name]
        if dropout or not (isinstance(stage, dict) and "dropout" in stage)
    ]
    return cnnlib.models.ConvNet(explicit(stages), INPUT_DIM, CLASSES, dtype=dtype, seed=0)


def minibatch(dtype, batch, name=""):
    """Images (batch, 3, 32, 32) and labels (batch,), of pixels (batch, 32, 32), the same at every call."""
    (X,) = timing.Normals()(dtype, (batch, *INPUT_DIM))
    size = (batch, *INPUT_DIM[1:]) if name in OF_PIXELS else batch
    return X, np.random.default_rng(0).integers(CLASSES, size=size)


class OwnStep:
    """cnnlib's step: the model's loss and gradients, then the rule for each parameter, as Solver does it."""

    def __init__(self, model, X, y, rule):
        import cnnlib.optim

        self.model, self.X, self.y = model, X, y
        self.rule = getattr(cnnlib.optim, rule)
        self.configs = {name: {"learning_rate": RATE} for name in model.params}

    def __call__(self):
        loss, grads = self.model.loss(self.X, self.y)
        self.update(grads)
        return loss

    def update(self, grads):
        params, rule, configs = self.model.params, self.rule, self.configs
        for name, w in params.items():
            params[name], configs[name] = rule(w, grads[name], configs[name])
