"""A small network with three outputs from one trunk, and targets for it."""

import numpy as np
from cnnlib.models import Graph, GraphNet

LOSSES = {
    "label": "softmax",
    "size": {"name": "huber", "delta": 0.7},
    "mask": {"name": "softmax", "ignore": 9},
}
WEIGHTS = {"size": 0.3, "mask": 2.0}


def several_graph(norm=True):
    """Images (1, 6, 6) to labels of 4, a number, masks of 2; `size` reads `label`, too."""
    graph = Graph(outputs=("label", "size", "mask"))
    graph.conv("W1", "b1", pad=1)
    if norm:
        graph.spatial_batchnorm("gamma1", "beta1")
    trunk = graph.relu()
    graph.conv("W2", "b2", pad=1, x=trunk, name="mask")
    graph.global_avg_pool(x=trunk, name="pooled")
    graph.affine("W3", "b3", name="label")
    graph.concat("pooled", "label", name="both")
    graph.affine("W4", "b4", name="size")
    return graph


def several_outputs(dtype=np.float64, norm=True, **settings):
    """The network; without `settings` it has LOSSES and WEIGHTS."""
    sizes = {"W1": (5, 1, 3, 3), "b1": 5, "gamma1": 5, "beta1": 5, "W2": (2, 5, 3, 3), "b2": 2}
    sizes |= {"W3": (5, 4), "b3": 4, "W4": (9, 1), "b4": 1}
    rng = np.random.default_rng(1)
    params = {name: 0.5 * rng.standard_normal(size) for name, size in sizes.items()}
    if not norm:
        del params["gamma1"], params["beta1"]
    settings = settings or {"losses": LOSSES, "loss_weights": WEIGHTS}
    return GraphNet(several_graph(norm), params, (1, 6, 6), dtype=dtype, seed=0, **settings)


def targets_of(X, y, ignored=0.2):
    """Targets for images and labels of `training.digits_like`; a share of the pixels is `ignored`."""
    mask = (X[:, 0] > 0.5).astype(np.int64)
    mask[np.random.default_rng(2).random(mask.shape) < ignored] = 9
    return {"label": y, "size": X.mean((1, 2, 3)).reshape(-1, 1).astype(np.float64), "mask": mask}


def with_targets(data, ignored=0.2):
    """A dict of data whose targets are those of three outputs."""
    parts = [(f"y_{part}", data[f"X_{part}"], data[f"y_{part}"]) for part in ("train", "val")]
    return data | {name: targets_of(X, y, ignored) for name, X, y in parts}
