# Written by tests/graph_stub.py.
import inspect
from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike

from cnnlib.graph.ops import Op
from cnnlib.typing import _ByAxis, _Pad

def callable_layers() -> tuple[str, ...]: ...
def signature_of(op: Op) -> inspect.Signature: ...

class LayerCalls:
    def conv(
        self,
        w: str,
        b: str | None = None,
        *,
        stride: _ByAxis = ...,
        pad: _Pad = ...,
        dilation: _ByAxis = ...,
        groups: int = ...,
        algorithm: str = ...,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def conv1d(
        self,
        w: str,
        b: str | None = None,
        *,
        stride: _ByAxis = ...,
        pad: _Pad = ...,
        dilation: _ByAxis = ...,
        groups: int = ...,
        algorithm: str = ...,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def conv3d(
        self,
        w: str,
        b: str | None = None,
        *,
        stride: _ByAxis = ...,
        pad: _Pad = ...,
        dilation: _ByAxis = ...,
        groups: int = ...,
        algorithm: str = ...,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def conv_transpose(
        self,
        w: str,
        b: str | None = None,
        *,
        stride: _ByAxis = ...,
        pad: _Pad = ...,
        dilation: _ByAxis = ...,
        groups: int = ...,
        algorithm: str = ...,
        output_pad: _ByAxis = ...,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def affine(
        self,
        w: str,
        b: str | None = None,
        *,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def attention(
        self,
        value1: str,
        value2: str,
        value3: str,
        /,
        *,
        scale: float | None = ...,
        bias: ArrayLike | None = ...,
        causal: bool = ...,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def batchnorm(
        self,
        gamma: str,
        beta: str,
        *,
        eps: float = ...,
        momentum: float = ...,
        running_mean: ArrayLike = ...,
        running_var: ArrayLike = ...,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
        statistics: str = "",
    ) -> str: ...
    def spatial_batchnorm(
        self,
        gamma: str,
        beta: str,
        *,
        eps: float = ...,
        momentum: float = ...,
        running_mean: ArrayLike = ...,
        running_var: ArrayLike = ...,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
        statistics: str = "",
    ) -> str: ...
    def layernorm(
        self,
        gamma: str,
        beta: str,
        *,
        eps: float = ...,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def spatial_layernorm(
        self,
        gamma: str,
        beta: str,
        *,
        eps: float = ...,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def spatial_groupnorm(
        self,
        gamma: str,
        beta: str,
        *,
        G: int,
        eps: float = ...,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def spatial_instancenorm(
        self,
        gamma: str,
        beta: str,
        *,
        eps: float = ...,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def relu(
        self,
        *,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def relu6(
        self,
        *,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def sigmoid(
        self,
        *,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def tanh(
        self,
        *,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def silu(
        self,
        *,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def hard_sigmoid(
        self,
        *,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def hard_swish(
        self,
        *,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def leaky_relu(
        self,
        *,
        alpha: float = 0.01,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def elu(
        self,
        *,
        alpha: float = 1.0,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def gelu(
        self,
        *,
        approximate: str = "none",
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def softmax(
        self,
        *,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def dropout(
        self,
        *,
        p: float,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def max_pool(
        self,
        *,
        size: _ByAxis = ...,
        pool_width: int = ...,
        pool_height: int = ...,
        stride: _ByAxis | None = ...,
        pad: _Pad = ...,
        ceil_mode: bool = ...,
        dilation: _ByAxis = ...,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def max_pool1d(
        self,
        *,
        size: _ByAxis = ...,
        pool_width: int = ...,
        stride: _ByAxis | None = ...,
        pad: _Pad = ...,
        ceil_mode: bool = ...,
        dilation: _ByAxis = ...,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def max_pool3d(
        self,
        *,
        size: _ByAxis = ...,
        pool_width: int = ...,
        pool_height: int = ...,
        pool_depth: int = ...,
        stride: _ByAxis | None = ...,
        pad: _Pad = ...,
        ceil_mode: bool = ...,
        dilation: _ByAxis = ...,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def avg_pool(
        self,
        *,
        size: _ByAxis = ...,
        pool_width: int = ...,
        pool_height: int = ...,
        stride: _ByAxis | None = ...,
        pad: _Pad = ...,
        ceil_mode: bool = ...,
        count_include_pad: bool = ...,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def avg_pool1d(
        self,
        *,
        size: _ByAxis = ...,
        pool_width: int = ...,
        stride: _ByAxis | None = ...,
        pad: _Pad = ...,
        ceil_mode: bool = ...,
        count_include_pad: bool = ...,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def avg_pool3d(
        self,
        *,
        size: _ByAxis = ...,
        pool_width: int = ...,
        pool_height: int = ...,
        pool_depth: int = ...,
        stride: _ByAxis | None = ...,
        pad: _Pad = ...,
        ceil_mode: bool = ...,
        count_include_pad: bool = ...,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def global_avg_pool(
        self,
        *,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def adaptive_avg_pool(
        self,
        *,
        size: int | tuple[int, int],
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def adaptive_max_pool(
        self,
        *,
        size: int | tuple[int, int],
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def upsample(
        self,
        *,
        scale: int | tuple[int, int],
        mode: str = "nearest",
        align_corners: bool = False,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def add(
        self,
        value1: str,
        value2: str,
        /,
        *,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def multiply(
        self,
        value1: str,
        value2: str,
        /,
        *,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def concat(
        self,
        *values: str,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def scale(
        self,
        *,
        factor: float,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def flatten(
        self,
        *,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def transpose(
        self,
        *,
        axes: Sequence[int],
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def reshape(
        self,
        *,
        shape: Sequence[int],
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def slice(
        self,
        *,
        start: int | None,
        stop: int | None,
        step: int,
        axis: int,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def pad(
        self,
        *,
        widths: Sequence[Sequence[int]],
        mode: str,
        value: float,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def expand(
        self,
        *,
        shape: Sequence[int],
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def expand_as(
        self,
        value1: str,
        value2: str,
        /,
        *,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def roll(
        self,
        *,
        shift: Sequence[int],
        axis: Sequence[int],
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def flip(
        self,
        *,
        axis: Sequence[int],
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def gather(
        self,
        *,
        indices: Any,
        axis: int,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def constant(
        self,
        w: str,
        *,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def linear(
        self,
        w: str,
        b: str | None = None,
        *,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def trailing_layernorm(
        self,
        gamma: str,
        beta: str,
        *,
        eps: float,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def divide(
        self,
        value1: str,
        value2: str,
        /,
        *,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def minimum(
        self,
        value1: str,
        value2: str,
        /,
        *,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def maximum(
        self,
        value1: str,
        value2: str,
        /,
        *,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def where(
        self,
        value1: str,
        value2: str,
        /,
        *,
        mask: Any,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def power(
        self,
        *,
        exponent: float,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def clip(
        self,
        *,
        low: float,
        high: float,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def exp(
        self,
        *,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def log(
        self,
        *,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def absolute(
        self,
        *,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def softplus(
        self,
        *,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def reduce_sum(
        self,
        *,
        axis: Sequence[int],
        keepdims: bool,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def reduce_mean(
        self,
        *,
        axis: Sequence[int],
        keepdims: bool,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def reduce_max(
        self,
        *,
        axis: Sequence[int],
        keepdims: bool,
        x: str | None = None,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
    def matmul(
        self,
        value1: str,
        value2: str,
        /,
        *,
        name: str | None = None,
        label: str = "",
    ) -> str: ...
