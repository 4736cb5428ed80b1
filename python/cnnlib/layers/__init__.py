"""
Convolutional-network layers on NumPy arrays, compiled.

Each `*_forward` returns `(out, cache)`, each `*_backward(dout, cache)` the gradients in the order of the
forward's arrays. Images are (N, C, H, W); float32 and float64 stay what they are, mixed inputs promote as
`np.result_type` has it, integers and booleans become float64, and float16 and bfloat16 are computed in
float32. Any strides, byte order and read-only memory are accepted; inputs are never written to. The
loop versions of all of them, to read, are in `cnnlib.naive`.
"""

from cnnlib.layers import (
    activations,
    conv,
    dense,
    dense_sandwiches,
    losses,
    pool,
    resizing,
    sandwiches,
    volume_pools,
    volumes,
)
from cnnlib.layers.activations import *
from cnnlib.layers.conv import *
from cnnlib.layers.dense import *
from cnnlib.layers.dense_sandwiches import *
from cnnlib.layers.losses import *
from cnnlib.layers.norm import batch, rows
from cnnlib.layers.norm.batch import *
from cnnlib.layers.norm.rows import *
from cnnlib.layers.pool import *
from cnnlib.layers.resizing import *
from cnnlib.layers.sandwiches import *
from cnnlib.layers.volume_pools import *
from cnnlib.layers.volumes import *

__all__: list[str] = []
__all__ += activations.__all__
__all__ += conv.__all__
__all__ += dense.__all__
__all__ += losses.__all__
__all__ += batch.__all__
__all__ += rows.__all__
__all__ += pool.__all__
__all__ += resizing.__all__
__all__ += dense_sandwiches.__all__
__all__ += sandwiches.__all__
__all__ += volume_pools.__all__
__all__ += volumes.__all__
