"""Recipes: whole settings of ``cnnlib train`` under a name, for a data set each.

A recipe is a dict of the command's settings by their long names (``--learning-rate`` is ``learning_rate``),
data set and model included. What it does not name is as the command has it, and the command's other options
override it.
"""

RECIPES = {
    # After Jordan 2024, arXiv:2404.00498 ("airbench94"), with what differs here said beside it.
    "cifar10-fast": {
        "data": "cifar10",
        "model": "vgg-whitened",  # whitened 2x2 patches, six 3x3 convolutions that start as the identity
        "num_epochs": 10,
        "batch_size": 1024,
        "update_rule": "sgd_nesterov_momentum",
        "learning_rate": 1.5,
        "momentum": 0.85,
        "rate_factors": {"beta": 64},  # the batch norms' shifts learn faster
        "schedule": {"name": "triangle", "peak": 0.23, "start": 0.2, "final": 0.07},
        "weight_decay": 0.0089,  # decoupled, so it has the factor 1 / (1 - momentum) that the paper's gets
        "label_smoothing": 0.2,
        "lookahead": {"steps": 5, "decay": 0.95, "power": 3},
        "augment": [{"name": "alternating-flip"}, {"name": "crop", "pad": 2, "mode": "reflect"}],
        "tta": "mirror-shift",
        "keep": "last",
        "reg": 0.0,
    },
}
