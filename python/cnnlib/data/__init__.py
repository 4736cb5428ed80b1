"""Data sets: the embedded handwritten digits, CIFAR as published, folders of images, array files.

Every data set comes as a dict ``X_train, y_train, X_val, y_val, X_test, y_test``: what
:class:`cnnlib.solver.Solver` takes, and the test split beside it. :class:`Normalization` is for the Solver's
``preprocess``: it normalises each minibatch of images that are kept as they are. ``map_...`` and the readers
of folders leave the images on the disk and map them into memory; :class:`ShardedArray` joins several maps,
and :class:`Rows` reads arrays of h5py, Zarr and others by rows.
"""

from cnnlib.data.array_files import load_array_folder
from cnnlib.data.cifar10 import (
    CIFAR10_CLASSES,
    default_data_dir,
    get_CIFAR10_data,
    load_CIFAR10,
    map_CIFAR10,
    map_CIFAR100,
)
from cnnlib.data.digits import load_digits
from cnnlib.data.download import download_CIFAR10
from cnnlib.data.image_folder import load_image_folder
from cnnlib.data.normalization import Normalization
from cnnlib.data.rows import Rows
from cnnlib.data.shards import ShardedArray
from cnnlib.data.target_folder import load_target_folder

__all__ = ["CIFAR10_CLASSES", "Normalization", "Rows", "ShardedArray", "default_data_dir", "download_CIFAR10"]
__all__ += ["get_CIFAR10_data", "load_CIFAR10", "load_array_folder", "load_digits", "load_image_folder"]
__all__ += ["load_target_folder", "map_CIFAR10", "map_CIFAR100"]
