"""Threads and algorithms of the process; schedules and augmentations as objects."""

from typing import Any, assert_type

import cnnlib
import numpy as np
from cnnlib.augment import HorizontalFlip, RandomCrop, averaged_scores
from cnnlib.models import FullyConnectedNet
from cnnlib.schedules import Cosine
from cnnlib.solver import Solver
from numpy.typing import NDArray

before = cnnlib.get_num_threads()
cnnlib.set_num_threads(1)
assert_type(cnnlib.get_num_threads(), int)
assert_type(cnnlib.get_conv_algorithm(), str)
cnnlib.set_num_threads(before)

rng = np.random.default_rng(0)
images = rng.random((40, 1, 8, 8)).astype(np.float32)
flipped = HorizontalFlip(p=0.5)(images, rng)
assert_type(flipped, NDArray[Any])
assert_type(Cosine(warmup=1.0)(0.5, 10), float)

labels = rng.integers(0, 3, 40)
data = {"X_train": images, "y_train": labels, "X_val": images, "y_val": labels}
model = FullyConnectedNet([10], (1, 8, 8), 3, dropout=0.2)
solver = Solver(
    model, data, augment=[HorizontalFlip(), RandomCrop(pad=1)], schedule=Cosine(), num_epochs=1, verbose=False
)
solver.train()
assert_type(averaged_scores(model.loss, images, "mirror"), NDArray[Any])
