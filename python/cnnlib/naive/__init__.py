"""Plain-loop NumPy versions of every layer: the formulas, to read and to test the compiled ones against.

Each ``<name>_naive`` has the signature, the result and the cache of its compiled twin in
:mod:`cnnlib.layers`, so one can stand in for the other, and a cache of the one feeds the backward of
the other. These versions are slow on purpose, take NumPy arrays alone (no lists, no tensors), and mostly
trust their input: use the compiled ones for work, and for error messages.

The files are named as those of :mod:`cnnlib.layers`; ``windows.py`` works out where the windows of
convolution and pooling stand. ``quantized.py`` defines eight-bit networks, ``bfloat16.py`` those on
bfloat16; ``detection.py`` has the loops of :mod:`cnnlib.detection`.

Letters: ``N`` images, ``C`` channels, ``H, W`` height and width, ``F`` filters, ``KH, KW`` the window's
size, ``OH, OW`` the output's. ``dout`` is the gradient of the loss with respect to ``out``, and likewise
``dx``, ``dw``, ``db``, each in the shape of what it is the gradient of.
"""

from typing import TYPE_CHECKING

from cnnlib.naive import bfloat16 as bfloat16
from cnnlib.naive import detection as detection
from cnnlib.naive import quantized as quantized
from cnnlib.naive.activations import *
from cnnlib.naive.attention import *
from cnnlib.naive.conv import *
from cnnlib.naive.dense import *
from cnnlib.naive.losses import *
from cnnlib.naive.norm import *
from cnnlib.naive.pool import *
from cnnlib.naive.resizing import *
from cnnlib.naive.sandwiches import *
from cnnlib.naive.volumes import *

if not TYPE_CHECKING:  # as in cnnlib.layers
    __all__ = sorted(name for name, value in globals().items() if callable(value))
