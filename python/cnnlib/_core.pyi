from collections.abc import Sequence
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

__version__: str
compiler: str
eigen_version: str
has_openmp: bool
isas_left_out: str

# Each call takes arrays of one type, C-contiguous; both types are overloads of one function.
_T = TypeVar("_T", np.float32, np.float64)
_Stats: TypeAlias = NDArray[np.float64]
_Shape: TypeAlias = tuple[int, int, int, int, int]
_PoolGeometry: TypeAlias = tuple[int, int, int, int, int, int, int, int, int, int]
_Piece: TypeAlias = tuple[int, Sequence[int], int, Sequence[int], int, Sequence[int]]
_Axes: TypeAlias = tuple[Sequence[int], Sequence[int]]
_Gradients: TypeAlias = tuple[NDArray[_T] | None, NDArray[_T] | None, NDArray[_T] | None]

def active_isa() -> str: ...
def available_isas() -> list[str]: ...
def active_products() -> str: ...
def int8_limit() -> str: ...
def limit_int8(name: str) -> None: ...
def active_bfloat16() -> str | None: ...
def bfloat16_limit() -> str: ...
def limit_bfloat16(name: str) -> None: ...
def use_isa(name: str) -> None: ...
def get_num_threads() -> int: ...
def set_num_threads(n: int) -> None: ...
def use_thread_pool(pool: bool) -> None: ...
def notice_missing_cores(notice: bool) -> None: ...

class MissingCores(metaclass=_Bound):
    """Times in milliseconds."""

    def __init__(self) -> None: ...
    def left(self, threads: int, now: float) -> int: ...
    def note(self, threads: int, cores: int, begin: float, first: float, last: float) -> None: ...

def caches() -> tuple[int, int, int]: ...
def system_caches(folder: str, processors: list[int]) -> tuple[int, int, int]: ...
def physical_cores() -> int: ...
def system_cores(folder: str, processors: list[int]) -> int: ...
def release_buffers() -> None: ...
def scratch_peak() -> int: ...
def restart_scratch_peak() -> None: ...
def memory_limit() -> int: ...
def cgroup_memory_limit(membership: str, mount: str) -> int: ...
def cgroup_cpus(membership: str, mount: str) -> int: ...
def buffer_counts() -> tuple[int, int]: ...
def buffer_bytes() -> tuple[int, int]: ...
def get_conv_algorithm() -> str: ...
def set_conv_algorithm(name: object) -> None: ...

# method, cost, tile, blocks, threads, scratch and packed bytes, alternatives
_Plan: TypeAlias = tuple[str, float, tuple[int, int], dict[str, int], int, int, int, list[tuple[str, float]]]

conv_methods: tuple[str, ...]

def conv_plans(x: NDArray[_T], w: NDArray[_T], conv_param: object) -> tuple[_Plan, _Plan, _Plan]: ...
def conv_bn_relu_scratch(x: NDArray[_T], w: NDArray[_T], conv_param: object) -> tuple[int, int]: ...

# Of unspecified contents, in memory that is recycled when the array dies.
def new_array(function: str, shape: tuple[int, ...], dtype: np.dtype[_T]) -> NDArray[_T]: ...
def ready_dtype(
    names: tuple[str, ...], arrays: tuple[object, ...]
) -> np.dtype[np.float32] | np.dtype[np.float64] | None: ...

# The class of pybind11's classes.
class _Bound(type): ...

class PreparedConv(metaclass=_Bound):
    def __init__(self, w: NDArray[_T], b: NDArray[_T] | None, conv_param: object) -> None: ...
    def forward(
        self, function: str, x: NDArray[_T], relu: bool, out: NDArray[_T] | None = None
    ) -> NDArray[_T]: ...
    def packed(self) -> list[tuple[str, int]]: ...

_NarrowImage = tuple[int, int, int, int, int, int, int]
_Bytes = NDArray[np.uint8]

class Weights(metaclass=_Bound):
    """What a live program reads during a call."""

    def __init__(self, *args: object, **kwargs: object) -> None: ...

def bfloat_conv_fits(x: _NarrowImage, w: NDArray[np.float32], conv_param: object, trained: bool) -> bool: ...

class Program(metaclass=_Bound):
    """values: the place (0 the input, 1 the output, 2 the arena), size and offset of each, for one sample.

    A live one keeps no arrays: `weights` takes those of a call, and `scores` runs on what it returns.
    """

    def __init__(
        self,
        dtype: np.dtype[_T],
        values: list[tuple[int, int, int]],
        input_size: int,
        output_size: int,
        arena: int,
        live: bool = False,
    ) -> None: ...
    def conv(
        self,
        name: str,
        input: int,
        output: int,
        like: NDArray[_T],
        w: NDArray[_T],
        b: NDArray[_T] | None,
        conv_param: object,
        add: bool,
        bound: float | None,
    ) -> None: ...
    def inverted_residual(
        self,
        name: str,
        input: int,
        other: int,
        output: int,
        like: NDArray[_T],
        layers: list[tuple[NDArray[_T], NDArray[_T] | None, float | None]],
        conv_param: object,
    ) -> None: ...
    conv_transpose = conv
    def affine(
        self, name: str, input: int, output: int, w: NDArray[_T], b: NDArray[_T] | None, bound: float | None
    ) -> None: ...
    def attention(
        self,
        name: str,
        inputs: Sequence[int],
        output: int,
        sizes: Sequence[int],
        bias: NDArray[_T] | None,
        scale: float,
        causal: bool,
    ) -> None: ...
    def copy(
        self, name: str, inputs: Sequence[int], output: int, pieces: Sequence[_Piece], filled: float | None
    ) -> None: ...
    def matmul(
        self, name: str, inputs: Sequence[int], output: int, count: int, M: int, N: int, K: int
    ) -> None: ...
    def function(self, name: str, input: int, output: int, kind: str, a: float, b: float) -> None: ...
    def pair(self, name: str, inputs: Sequence[int], output: int, kind: str) -> None: ...
    def where(self, name: str, inputs: Sequence[int], output: int, mask: NDArray[np.uint8]) -> None: ...
    def constant(self, name: str, input: int, output: int, array: NDArray[_T]) -> None: ...
    def reduce(self, name: str, input: int, output: int, kind: str, kept: _Axes, gone: _Axes) -> None: ...
    def max_pool(
        self, name: str, input: int, output: int, like: NDArray[_T], geometry: _PoolGeometry, ceil_mode: bool
    ) -> None: ...
    def avg_pool(
        self,
        name: str,
        input: int,
        output: int,
        like: NDArray[_T],
        geometry: _PoolGeometry,
        ceil_mode: bool,
        count_include_pad: bool,
    ) -> None: ...
    def normalize(
        self,
        name: str,
        input: int,
        output: int,
        S: int,
        mean: _Stats | None,
        inv_std: _Stats | None,
        gamma: NDArray[_T],
        beta: NDArray[_T],
        bound: float | None,
    ) -> None: ...
    def row_norm(
        self,
        name: str,
        input: int,
        output: int,
        shape: _Shape,
        eps: float,
        gamma: NDArray[_T],
        beta: NDArray[_T],
    ) -> None: ...
    def activation(
        self, name: str, input: int, output: int, like: NDArray[_T], kind: str, alpha: float
    ) -> None: ...
    def softmax(self, name: str, input: int, output: int, like: NDArray[_T]) -> None: ...
    def adaptive_max_pool(
        self, name: str, input: int, output: int, like: NDArray[_T], size: tuple[int, int]
    ) -> None: ...
    def adaptive_avg_pool(
        self, name: str, input: int, output: int, like: NDArray[_T], size: tuple[int, int]
    ) -> None: ...
    def upsample(
        self,
        name: str,
        input: int,
        output: int,
        like: NDArray[_T],
        scale: tuple[int, int],
        bilinear: bool,
        align_corners: bool,
    ) -> None: ...
    def sum(self, name: str, a: int, b: int, output: int, planes: int, relu: bool) -> None: ...
    def product(self, name: str, a: int, b: int, output: int, planes: int) -> None: ...
    def scale(self, name: str, input: int, output: int, factor: float) -> None: ...
    def concat(self, name: str, inputs: list[int], output: int) -> None: ...
    def fits(self, params: list[object]) -> bool: ...
    def weights(
        self,
        params: list[object],
        norms: list[tuple[float, NDArray[_T], NDArray[_T]]],
        before: Weights | None,
    ) -> Weights: ...
    def scores(self, x: NDArray[_T], weights: Weights, shape: list[int]) -> NDArray[_T]: ...
    def run(self, x: NDArray[_T], shape: list[int]) -> NDArray[_T]: ...
    def run_bytes(
        self, x: NDArray[np.uint8], mean: NDArray[_T], std: NDArray[_T], shape: list[int]
    ) -> NDArray[_T]: ...
    def profile(self, x: NDArray[_T], shape: list[int], repeats: int) -> list[tuple[str, float, float]]: ...
    @property
    def packed_bytes(self) -> int: ...

    # Of eight-bit networks, programs in float32.
    def quantize(
        self, name: str, input: int, output: int, y: _NarrowImage, scale: float, zero: int
    ) -> None: ...
    def dequantize(
        self, name: str, input: int, output: int, x: _NarrowImage, scale: float, zero: int
    ) -> None: ...
    def byte_conv(
        self,
        name: str,
        input: int,
        other: int,
        output: int,
        x: _NarrowImage,
        other_image: _NarrowImage,
        y: _NarrowImage | None,
        w: NDArray[np.int8],
        bias: NDArray[np.int32],
        multiplier: NDArray[np.float32],
        factor: NDArray[np.int32] | None,
        numbers: tuple[int, int, int, int],
        conv_param: object,
    ) -> None: ...
    def byte_max_pool(
        self,
        name: str,
        input: int,
        output: int,
        x: _NarrowImage,
        y: _NarrowImage,
        zero: int,
        geometry: _PoolGeometry,
        ceil_mode: bool,
    ) -> None: ...
    def byte_avg_pool(
        self,
        name: str,
        input: int,
        output: int,
        x: _NarrowImage,
        y: _NarrowImage,
        x_zero: int,
        ratio: float,
        zero: int,
        geometry: _PoolGeometry,
        ceil_mode: bool,
        count_include_pad: bool,
    ) -> None: ...
    def byte_add(
        self,
        name: str,
        a: int,
        b: int,
        output: int,
        a_image: _NarrowImage,
        b_image: _NarrowImage,
        y: _NarrowImage,
        factors: tuple[int, int, int],
        multiplier: float,
        numbers: tuple[int, int, int],
    ) -> None: ...
    def byte_table(
        self, name: str, input: int, output: int, x: _NarrowImage, y: _NarrowImage, table: _Bytes, zero: int
    ) -> None: ...
    def byte_concat(
        self,
        name: str,
        inputs: list[int],
        output: int,
        images: list[_NarrowImage],
        y: _NarrowImage,
        zero: int,
    ) -> None: ...
    def narrow(self, name: str, input: int, output: int, y: _NarrowImage) -> None: ...
    def widen(self, name: str, input: int, output: int, x: _NarrowImage) -> None: ...
    def bfloat_conv(
        self,
        name: str,
        input: int,
        other: int,
        output: int,
        x: _NarrowImage,
        other_image: _NarrowImage,
        y: _NarrowImage | None,
        w: NDArray[np.float32],
        b: NDArray[np.float32] | None,
        conv_param: object,
        bound: float | None,
    ) -> None: ...
    def bfloat_pool(
        self,
        name: str,
        input: int,
        output: int,
        x: _NarrowImage,
        y: _NarrowImage,
        mean: bool,
        geometry: _PoolGeometry,
        ceil_mode: bool,
        count_include_pad: bool,
    ) -> None: ...
    def bfloat_sum(
        self,
        name: str,
        a: int,
        b: int,
        output: int,
        a_image: _NarrowImage,
        b_image: _NarrowImage,
        y: _NarrowImage,
        relu: bool,
    ) -> None: ...
    def bfloat_product(
        self,
        name: str,
        a: int,
        b: int,
        output: int,
        a_image: _NarrowImage,
        b_image: _NarrowImage,
        y: _NarrowImage,
    ) -> None: ...
    def bfloat_activation(
        self, name: str, input: int, output: int, x: _NarrowImage, y: _NarrowImage, kind: str, alpha: float
    ) -> None: ...
    def bfloat_concat(
        self, name: str, inputs: list[int], output: int, images: list[_NarrowImage], y: _NarrowImage
    ) -> None: ...

class Batch(metaclass=_Bound):
    def __init__(self, *args: object, **kwargs: object) -> None: ...
    @property
    def N(self) -> int: ...
    @property
    def seconds(self) -> list[tuple[float, float]]: ...

class Training(metaclass=_Bound):
    def __init__(
        self,
        dtype: np.dtype[_T],
        sizes: list[int],
        wanted: list[bool],
        params: list[tuple[int, ...]],
        trained: list[bool],
        done: list[list[int]],
        images: Sequence[_NarrowImage | None] | None = None,
    ) -> None: ...
    def narrow(self, x: int, out: int) -> None: ...
    def widen(self, x: int, out: int) -> None: ...
    def bfloat_conv(
        self,
        x: int,
        out: int,
        weights: NDArray[np.float32],
        w: int,
        b: int,
        conv_param: object,
        bound: float | None,
    ) -> None: ...
    def bfloat_conv_bn_relu(
        self,
        x: int,
        out: int,
        weights: NDArray[np.float32],
        w: int,
        b: int,
        gamma: int,
        beta: int,
        conv_param: object,
    ) -> None: ...
    def bfloat_norm(self, x: int, out: int, gamma: int, beta: int, relu: bool) -> None: ...
    def bfloat_pool(
        self,
        x: int,
        out: int,
        mean: bool,
        geometry: _PoolGeometry,
        ceil_mode: bool,
        count_include_pad: bool,
    ) -> None: ...
    def bfloat_sum(self, terms: Sequence[int], out: int, relu: bool) -> None: ...
    def bfloat_activation(self, x: int, out: int, kind: str, alpha: float) -> None: ...
    def bfloat_concat(self, xs: list[int], out: int) -> None: ...
    def conv(
        self,
        x: int,
        out: int,
        like: NDArray[_T],
        weights: NDArray[_T],
        w: int,
        b: int,
        conv_param: object,
        relu: bool,
        by_mask: bool,
    ) -> None: ...
    conv_transpose = conv
    def conv_bn_relu(
        self,
        x: int,
        out: int,
        like: NDArray[_T],
        weights: NDArray[_T],
        w: int,
        b: int,
        gamma: int,
        beta: int,
        conv_param: object,
    ) -> None: ...
    def batchnorm(self, x: int, out: int, C: int, S: int, gamma: int, beta: int, relu: bool) -> None: ...
    def row_norm(self, x: int, out: int, shape: _Shape, gamma: int, beta: int, eps: float) -> None: ...
    def affine(self, x: int, out: int, D: int, M: int, w: int, b: int, relu: bool) -> None: ...
    def scale(self, x: int, out: int, factor: float) -> None: ...
    def activation(self, x: int, out: int, like: NDArray[_T], kind: str, alpha: float) -> None: ...
    def softmax(self, x: int, out: int, like: NDArray[_T]) -> None: ...
    def attention(
        self,
        xs: Sequence[int],
        out: int,
        sizes: Sequence[int],
        bias: NDArray[_T] | None,
        scale: float,
        causal: bool,
    ) -> None: ...
    def dropout(self, x: int, out: int) -> None: ...
    def add(self, terms: list[int], out: int, relu: bool) -> None: ...
    def concat(self, xs: list[int], out: int) -> None: ...
    def max_pool(
        self, x: int, out: int, like: NDArray[_T], geometry: _PoolGeometry, ceil_mode: bool
    ) -> None: ...
    def avg_pool(
        self,
        x: int,
        out: int,
        like: NDArray[_T],
        geometry: _PoolGeometry,
        ceil_mode: bool,
        count_include_pad: bool,
    ) -> None: ...
    def adaptive_max_pool(self, x: int, out: int, like: NDArray[_T], size: tuple[int, int]) -> None: ...
    def adaptive_avg_pool(self, x: int, out: int, like: NDArray[_T], size: tuple[int, int]) -> None: ...
    def upsample(
        self, x: int, out: int, like: NDArray[_T], scale: tuple[int, int], bilinear: bool, align_corners: bool
    ) -> None: ...
    def flatten(self, x: int, out: int) -> None: ...
    def fits(self, params: list[object]) -> bool: ...
    def forward(
        self,
        x: NDArray[_T],
        params: list[NDArray[_T]],
        norms: list[tuple[float, float, NDArray[_T], NDArray[_T]]],
        masks: list[NDArray[_T]],
        outputs: list[tuple[int, list[int]]],
        timed: bool = False,
    ) -> tuple[Batch, list[NDArray[_T]], list[tuple[NDArray[_T], NDArray[_T]]]]: ...
    def backward(self, batch: Batch, douts: list[tuple[int, NDArray[_T]]]) -> list[NDArray[_T]]: ...

def conv_adds(like: NDArray[_T], w: NDArray[_T], conv_param: object) -> bool: ...
def ready_conv_forward(
    function: str, x: object, w: object, b: object, conv_param: object, relu: bool
) -> NDArray[np.float32] | NDArray[np.float64] | None: ...
def ready_conv_backward(
    function: str, dout: object, cache: object, needs: object
) -> _Gradients[np.float32] | _Gradients[np.float64] | None: ...
def conv_forward(
    function: str,
    x: NDArray[_T],
    w: NDArray[_T],
    b: NDArray[_T] | None,
    conv_param: object,
    relu: bool = False,
    out: NDArray[_T] | None = None,
) -> NDArray[_T]: ...
def conv_backward(
    function: str,
    dout: NDArray[_T],
    x: NDArray[_T],
    w: NDArray[_T],
    conv_param: object,
    needs: tuple[bool, bool, bool],
) -> _Gradients[_T]: ...

conv_transpose_forward = conv_forward
conv_transpose_backward = conv_backward

def conv_bn_relu_backward(
    function: str,
    dout: NDArray[_T],
    x: NDArray[_T],
    w: NDArray[_T],
    a: NDArray[_T],
    mean: _Stats,
    inv_std: _Stats,
    gamma: NDArray[_T],
    beta: NDArray[_T],
    from_batch: bool,
    conv_param: object,
    needs: tuple[bool, bool, bool],
) -> tuple[NDArray[_T] | None, NDArray[_T] | None, NDArray[_T] | None, NDArray[_T], NDArray[_T]]: ...
def max_pool_forward(
    function: str, x: NDArray[_T], geometry: _PoolGeometry, ceil_mode: bool, out: NDArray[_T] | None = None
) -> tuple[NDArray[_T], NDArray[np.unsignedinteger]]: ...
def max_pool_backward(
    function: str,
    dout: NDArray[_T],
    x: NDArray[_T],
    geometry: _PoolGeometry,
    ceil_mode: bool,
    argmax: NDArray[np.unsignedinteger],
) -> NDArray[_T]: ...
def avg_pool_forward(
    function: str,
    x: NDArray[_T],
    geometry: _PoolGeometry,
    ceil_mode: bool,
    count_include_pad: bool,
    out: NDArray[_T] | None = None,
) -> NDArray[_T]: ...
def avg_pool_backward(
    function: str,
    dout: NDArray[_T],
    x: NDArray[_T],
    geometry: _PoolGeometry,
    ceil_mode: bool,
    count_include_pad: bool,
) -> NDArray[_T]: ...
def global_avg_pool_forward(x: NDArray[_T], out: NDArray[_T] | None = None) -> NDArray[_T]: ...
def global_avg_pool_backward(dout: NDArray[_T], shape: tuple[int, int, int, int]) -> NDArray[_T]: ...
def adaptive_avg_pool_forward(
    function: str, x: NDArray[_T], size: tuple[int, int], out: NDArray[_T] | None = None
) -> NDArray[_T]: ...
def adaptive_avg_pool_backward(
    function: str, dout: NDArray[_T], x: NDArray[_T], size: tuple[int, int]
) -> NDArray[_T]: ...
def adaptive_max_pool_forward(
    function: str, x: NDArray[_T], size: tuple[int, int], out: NDArray[_T] | None = None
) -> tuple[NDArray[_T], NDArray[np.int64]]: ...
def adaptive_max_pool_backward(
    function: str, dout: NDArray[_T], x: NDArray[_T], size: tuple[int, int], argmax: NDArray[np.int64]
) -> NDArray[_T]: ...
def upsample_forward(
    function: str,
    x: NDArray[_T],
    scale: tuple[int, int],
    bilinear: bool,
    align_corners: bool,
    out: NDArray[_T] | None = None,
) -> NDArray[_T]: ...
def upsample_backward(
    function: str,
    dout: NDArray[_T],
    x: NDArray[_T],
    scale: tuple[int, int],
    bilinear: bool,
    align_corners: bool,
) -> NDArray[_T]: ...
def batchnorm_train(
    function: str,
    x: NDArray[_T],
    ndim: int,
    gamma: NDArray[_T],
    beta: NDArray[_T],
    eps: float,
    relu: bool = False,
    out: NDArray[_T] | None = None,
) -> tuple[NDArray[_T], _Stats, _Stats, _Stats]: ...
def moved_statistic(
    function: str, running: NDArray[_T], statistic: _Stats, momentum: float
) -> NDArray[_T]: ...
def batchnorm_normalize(
    function: str,
    x: NDArray[_T],
    ndim: int,
    mean: _Stats,
    inv_std: _Stats,
    gamma: NDArray[_T],
    beta: NDArray[_T],
    relu: bool = False,
    out: NDArray[_T] | None = None,
) -> NDArray[_T]: ...
def batchnorm_backward(
    function: str,
    dout: NDArray[_T],
    x: NDArray[_T],
    ndim: int,
    mean: _Stats,
    inv_std: _Stats,
    gamma: NDArray[_T],
    beta: NDArray[_T] | None,
    from_batch: bool,
) -> tuple[NDArray[_T], NDArray[_T], NDArray[_T]]: ...
def rownorm_forward(
    function: str,
    x: NDArray[_T],
    ndim: int,
    gamma: NDArray[_T],
    beta: NDArray[_T],
    groups: int,
    eps: float,
    out: NDArray[_T] | None,
    by_pixel: bool,
) -> tuple[NDArray[_T], _Stats, _Stats]: ...
def rownorm_backward(
    function: str,
    dout: NDArray[_T],
    x: NDArray[_T],
    ndim: int,
    mean: _Stats,
    inv_std: _Stats,
    gamma: NDArray[_T],
    groups: int,
    by_pixel: bool,
) -> tuple[NDArray[_T], NDArray[_T], NDArray[_T]]: ...
def attention_forward(
    function: str,
    q: NDArray[_T],
    k: NDArray[_T],
    v: NDArray[_T],
    bias: NDArray[_T] | None,
    scale: float,
    causal: bool,
    keep: bool,
) -> tuple[NDArray[_T], NDArray[_T] | None, NDArray[_T] | None, NDArray[_T] | None]: ...
def attention_backward(
    function: str,
    dout: NDArray[_T],
    q: NDArray[_T],
    k: NDArray[_T],
    v: NDArray[_T],
    bias: NDArray[_T] | None,
    scale: float,
    causal: bool,
    out: NDArray[_T],
    most: NDArray[_T],
    total: NDArray[_T],
    bias_gradient: bool,
) -> tuple[NDArray[_T], NDArray[_T], NDArray[_T], NDArray[_T] | None]: ...
def affine_forward(
    function: str,
    x: NDArray[_T],
    w: NDArray[_T],
    b: NDArray[_T] | None,
    relu: bool,
    transposed: bool,
) -> NDArray[_T]: ...
def affine_backward(
    function: str,
    dout: NDArray[_T],
    x: NDArray[_T],
    w: NDArray[_T],
    needs: tuple[bool, bool, bool],
    transposed: bool,
) -> _Gradients[_T]: ...
def softmax_loss(
    function: str,
    x: NDArray[_T],
    y: NDArray[np.int64] | NDArray[_T],
    weights: NDArray[_T] | None,
    ignore: int,
) -> tuple[float, NDArray[_T]]: ...
def pointwise_loss(
    function: str, x: NDArray[_T], y: NDArray[_T], option: float, weights: NDArray[_T] | None
) -> tuple[float, NDArray[_T]]: ...
def dice_loss(function: str, x: NDArray[_T], y: NDArray[_T], maps: int) -> tuple[float, NDArray[_T]]: ...
def relu_forward(x: NDArray[_T]) -> NDArray[_T]: ...
def relu_backward(function: str, dout: NDArray[_T], x: NDArray[_T]) -> NDArray[_T]: ...
def relu_mask(function: str, x: NDArray[_T]) -> NDArray[np.uint8]: ...
def relu_backward_by_mask(function: str, dout: NDArray[_T], mask: NDArray[np.uint8]) -> NDArray[_T]: ...
def add(function: str, a: NDArray[_T], b: NDArray[_T]) -> NDArray[_T]: ...
def add_to(function: str, a: NDArray[_T], b: NDArray[_T]) -> None: ...
def add_relu(function: str, a: NDArray[_T], b: NDArray[_T]) -> NDArray[_T]: ...
def multiply(function: str, a: NDArray[_T], b: NDArray[_T]) -> NDArray[_T]: ...
def activation_forward(
    function: str, x: NDArray[_T], name: str, alpha: float
) -> tuple[NDArray[_T], NDArray[_T] | None]: ...
def activation_backward(
    function: str, dout: NDArray[_T], kept: NDArray[_T], name: str, alpha: float
) -> NDArray[_T]: ...
def softmax_forward(
    function: str, x: NDArray[_T], want_copy: bool = False
) -> tuple[NDArray[_T], NDArray[_T] | None]: ...
def softmax_backward(function: str, dout: NDArray[_T], y: NDArray[_T]) -> NDArray[_T]: ...
def sgd_step(w: NDArray[_T], dw: NDArray[_T], scale: float, learning_rate: float) -> None: ...
def sum_of_squares(x: NDArray[_T]) -> float: ...
def momentum_step(
    w: NDArray[_T],
    dw: NDArray[_T],
    scale: float,
    velocity: NDArray[_T],
    learning_rate: float,
    momentum: float,
    nesterov: bool,
) -> None: ...
def rmsprop_step(
    w: NDArray[_T],
    dw: NDArray[_T],
    scale: float,
    a: NDArray[_T],
    learning_rate: float,
    decay_rate: float,
    epsilon: float,
) -> None: ...
def adam_step(
    w: NDArray[_T],
    dw: NDArray[_T],
    scale: float,
    v: NDArray[_T],
    a: NDArray[_T],
    learning_rate: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
    t: int,
) -> None: ...
