"""
Convolutional-network layers on NumPy arrays, compiled.

Each `*_forward` returns `(out, cache)`, each `*_backward(dout, cache)` the gradients in the order of the
forward's arrays. Images are (N, C, H, W); float32 and float64 stay what they are, mixed inputs promote as
`np.result_type` has it, integers and booleans become float64, and float16 and bfloat16 are computed in
float32. Any strides, byte order and read-only memory are accepted; inputs are never written to. The
loop versions of all of them, to read, are in `cnnlib.naive`.
"""

from typing import TYPE_CHECKING

from cnnlib.layers.activations import *
from cnnlib.layers.conv import *
from cnnlib.layers.dense import *
from cnnlib.layers.dense_sandwiches import *
from cnnlib.layers.losses import *
from cnnlib.layers.norm.batch import *
from cnnlib.layers.norm.rows import *
from cnnlib.layers.pool import *
from cnnlib.layers.resizing import *
from cnnlib.layers.sandwiches import *
from cnnlib.layers.volume_pools import *
from cnnlib.layers.volumes import *

if not TYPE_CHECKING:  # whose tools see what the stars import, and in a list only what is written out
    __all__ = sorted(name for name, value in globals().items() if callable(value))
