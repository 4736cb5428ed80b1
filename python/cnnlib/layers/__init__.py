"""
Convolutional-network layers on NumPy arrays, compiled.

Each `*_forward` returns `(out, cache)`, each `*_backward(dout, cache)` the gradients in the order of the
forward's arrays, each in the shape of its array; `dout` is the gradient of the loss with respect to `out`, in
the shape of `out`. Images are (N, C, H, W). float32 and float64 stay what they are, mixed inputs promote as
`np.result_type` has it, integers and booleans become float64, and float16 and bfloat16 are computed in
float32. Any strides, byte order and read-only memory are accepted; inputs are never written to. The loop
versions of all of them, to read, are in `cnnlib.naive`.

A malformed call raises an error whose message begins with the function and names the argument, what came and
what was expected: ValueError for shapes that do not fit, values out of range and unknown keys, TypeError for
arrays, parameters or caches of an unsupported type, KeyError for a required key that is missing.
"""

from typing import TYPE_CHECKING

from cnnlib.layers.activations import *
from cnnlib.layers.attention import *
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
