"""What the layer tests share: tolerances, comparison, random arrays, a call of each layer, a new process."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from dataclasses import dataclass, fields

import cnnlib
import numpy as np
from cnnlib import _core, naive

FOLDER = os.path.dirname(__file__)  # of this module, for the path of a new process

# Largest absolute error, relative to the largest value expected.
TOLERANCE = {np.dtype(np.float32): 2e-5, np.dtype(np.float64): 1e-11}


def assert_close(got, want, dtype, tolerance=None, scale=0.0):
    """`got` is a contiguous array of `dtype` and equals `want` (float64) to that dtype's tolerance.

    The error is taken relative to the largest value expected, or to `scale` where that is larger.
    """
    dtype = np.dtype(dtype)
    assert type(got) is np.ndarray
    assert got.dtype == dtype
    assert got.shape == want.shape
    assert got.flags.c_contiguous
    finite = np.abs(want[np.isfinite(want)])
    scale = max(float(np.max(finite, initial=0.0)), scale)
    tolerance = TOLERANCE[dtype] if tolerance is None else tolerance
    np.testing.assert_allclose(got.astype(np.float64), want, rtol=0, atol=tolerance * scale)


def assert_all_close(got, want, dtype, tolerance=None):
    """The same for a tuple of results; None matches None."""
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        if w is None:
            assert g is None
        else:
            assert_close(g, w, dtype, tolerance)


def random_arrays(rng, *shapes):
    """Standard normal float64 arrays whose values float32 holds too, so that both dtypes see the same."""
    return [np.asarray(rng.standard_normal(shape, dtype=np.float32), dtype=np.float64) for shape in shapes]


def cast(arrays, dtype):
    return [None if a is None else a.astype(dtype) for a in arrays]


def assert_gradients(model, X, y, rtol=1e-5):
    """All but frozen parameters have a gradient of their shape, which agrees with the numerical one.

    At a few places, and along random directions, in which every value has its share.
    """
    rng, h = np.random.default_rng(0), 1e-5
    _, grads = model.loss(X, y)
    assert grads.keys() == model.params.keys() - set(getattr(model, "frozen", ()))
    for name, grad in grads.items():
        value = model.params[name]
        assert grad.shape == value.shape
        places = rng.permutation(value.size)[:6]
        unit = np.zeros((len(places), value.size))
        unit[np.arange(len(places)), places] = 1
        middle = value.copy()
        for direction in (*unit, *rng.standard_normal((3, value.size))):
            losses = []
            for step in (h, -h):
                value[...] = middle + step * direction.reshape(value.shape)
                losses.append(model.loss(X, y)[0])
            value[...] = middle
            want = (losses[0] - losses[1]) / (2 * h)
            np.testing.assert_allclose(np.vdot(direction, grad), want, rtol=rtol, atol=1e-8, err_msg=name)


def scratch_of(function, *args, **kwargs):
    """A call's result, and the most bytes that lay in its scratch at a time."""
    _core.restart_scratch_peak()
    before = _core.scratch_peak()
    result = function(*args, **kwargs)
    return result, _core.scratch_peak() - before


def pair(name, library=cnnlib):
    """forward and backward of a layer: the compiled ones, or with ``cnnlib.naive`` the loops."""
    suffix = "_naive" if library is naive else ""
    return tuple(getattr(library, f"{name}_{direction}{suffix}") for direction in ("forward", "backward"))


def as_tuple(gradients):
    """What a backward returns: several arrays in a tuple, or one."""
    return gradients if isinstance(gradients, tuple) else (gradients,)


@dataclass(frozen=True)
class Layer:
    """One layer with arrays that suit it, for tests that ask the same of all layers.

    `shapes` are those of the array arguments, `names` their names, `rest` makes the arguments that follow.
    """

    name: str
    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    rest: Callable[[], tuple] = tuple

    def __str__(self):
        return self.name

    @property
    def forward(self):
        return getattr(cnnlib, f"{self.name}_forward")

    @property
    def backward(self):
        return getattr(cnnlib, f"{self.name}_backward")

    @property
    def naive_forward(self):
        return getattr(naive, f"{self.name}_forward_naive")

    @property
    def naive_backward(self):
        return getattr(naive, f"{self.name}_backward_naive")

    @property
    def by_sample(self):
        """Say for each array whether it has an axis of samples."""
        return [name in ("x", "q", "k", "v") for name in self.names]

    def samples(self, arrays, chosen):
        """Return the arrays, with the chosen samples alone where they have samples."""
        return [a[chosen] if own else a for a, own in zip(arrays, self.by_sample, strict=True)]

    def arrays(self, rng, dtype=np.float64):
        return cast(random_arrays(rng, *self.shapes), dtype)

    def run(self, arrays, dout):
        """Forward and backward: [out, dx, dw, ...]."""
        out, cache = self.forward(*arrays, *self.rest())
        return [out, *as_tuple(self.backward(dout, cache))]


def _conv(**conv_param):
    return lambda: ({"stride": 1, "pad": 1, **conv_param},)


def _pool(**pool_param):
    return lambda: ({"pool_height": 2, "pool_width": 2, "stride": 2, **pool_param},)


def _bn():
    return ({"mode": "train"},)


_X, _XW, _XWB, _XGB = ("x",), ("x", "w"), ("x", "w", "b"), ("x", "gamma", "beta")
_XWBGB = (*_XWB, "gamma", "beta")
_IMAGE, _FILTERS = (3, 4, 6, 8), (4, 4, 3, 3)
_VOLUME = (2, 2, 4, 5, 6)
_POOL3D = {"pool_depth": 2, "pool_height": 3, "pool_width": 2}

# Layers that go element by element, and take arrays of any shape.
ELEMENTWISE = (
    "relu",
    "leaky_relu",
    "dropout",
    "relu6",
    "sigmoid",
    "tanh",
    "silu",
    "hard_sigmoid",
    "hard_swish",
)
ELEMENTWISE += ("gelu", "elu")

LAYERS = [
    Layer("conv", _XWB, (_IMAGE, (5, 4, 3, 3), (5,)), _conv()),
    Layer("max_pool", _X, (_IMAGE,), _pool()),
    Layer("batchnorm", _XGB, ((9, 4), (4,), (4,)), _bn),
    Layer("spatial_batchnorm", _XGB, (_IMAGE, (4,), (4,)), _bn),
    Layer("affine", _XWB, ((3, 2, 5), (10, 7), (7,))),
    Layer("relu", _X, (_IMAGE,)),
    Layer("dropout", _X, (_IMAGE,), lambda: ({"mode": "train", "p": 0.3, "seed": 5},)),
    Layer("affine_relu", _XWB, ((3, 2, 5), (10, 7), (7,))),
    Layer("affine_bn_relu", _XWBGB, ((9, 2, 5), (10, 4), (4,), (4,), (4,)), _bn),
    Layer("conv_relu", _XWB, (_IMAGE, _FILTERS, (4,)), _conv()),
    Layer("conv_bn_relu", _XWBGB, (_IMAGE, _FILTERS, (4,), (4,), (4,)), lambda: (*_conv()(), *_bn())),
    Layer("conv_relu_pool", _XWB, (_IMAGE, _FILTERS, (4,)), lambda: (*_conv()(), *_pool()())),
    Layer(
        "conv_bn_relu_pool",
        _XWBGB,
        (_IMAGE, _FILTERS, (4,), (4,), (4,)),
        lambda: (*_conv()(), *_bn(), *_pool()()),
    ),
    Layer("conv_transpose", _XWB, (_IMAGE, (4, 5, 3, 3), (5,)), _conv(stride=2)),
    Layer("avg_pool", _X, (_IMAGE,), _pool(pad=1)),
    Layer("global_avg_pool", _X, (_IMAGE,)),
    Layer("layernorm", _XGB, ((5, 9), (9,), (9,)), lambda: ({},)),
    Layer("spatial_layernorm", _XGB, (_IMAGE, (4,), (4,)), lambda: ({},)),
    Layer("spatial_groupnorm", _XGB, (_IMAGE, (4,), (4,)), lambda: (2, {})),
    Layer("leaky_relu", _X, (_IMAGE,)),
    *[Layer(name, _X, (_IMAGE,)) for name in ELEMENTWISE if name not in ("relu", "leaky_relu", "dropout")],
    Layer("softmax", _X, (_IMAGE,)),
    Layer("attention", ("q", "k", "v"), ((3, 2, 5, 4), (3, 2, 6, 4), (3, 2, 6, 3)), lambda: ({},)),
    Layer("adaptive_avg_pool", _X, (_IMAGE,), lambda: ((4, 3),)),
    Layer("adaptive_max_pool", _X, (_IMAGE,), lambda: ((4, 3),)),
    Layer("upsample", _X, (_IMAGE,), lambda: ((2, 3), "bilinear")),
    Layer("spatial_instancenorm", _XGB, (_IMAGE, (4,), (4,)), lambda: ({},)),
    Layer("conv1d", _XWB, ((3, 4, 9), (5, 4, 3), (5,)), _conv()),
    Layer("conv3d", _XWB, (_VOLUME, (3, 2, 2, 3, 3), (3,)), _conv()),
    Layer("max_pool1d", _X, ((3, 4, 9),), lambda: ({"pool_width": 2, "stride": 2},)),
    Layer("avg_pool1d", _X, ((3, 4, 9),), lambda: ({"pool_width": 2, "stride": 2, "pad": 1},)),
    Layer("max_pool3d", _X, (_VOLUME,), lambda: ({**_POOL3D, "stride": (1, 2, 2)},)),
    Layer("avg_pool3d", _X, (_VOLUME,), lambda: ({**_POOL3D, "pad": 1},)),
]


@dataclass(frozen=True)
class _Case:
    """Shapes, and what is not as usual among the parameters behind them."""

    def __str__(self):
        first, second, *others = fields(self)
        shapes = ("x".join(map(str, getattr(self, field.name))) for field in (first, second))
        values = ((field, getattr(self, field.name)) for field in others)
        return "-".join(
            [*shapes, *(f"{f.name}={value}".replace(" ", "") for f, value in values if value != f.default)]
        )


@dataclass(frozen=True)
class ConvCase(_Case):
    """x (N, C, H, W), w (F, C / groups, KH, KW), or of a transposed convolution (C, F / groups, KH, KW)."""

    x: tuple
    w: tuple
    stride: object = 1
    pad: object = 0
    dilation: object = 1
    groups: int = 1
    output_pad: object = 0
    bias: bool = True

    @property
    def conv_param(self):
        param = {name: getattr(self, name) for name in ("stride", "pad", "dilation", "groups")}
        return {**param, "output_pad": self.output_pad} if self.output_pad else param


@dataclass(frozen=True)
class PoolCase(_Case):
    """x (N, C, H, W), pool (pool_height, pool_width)."""

    x: tuple
    pool: tuple
    stride: object = None
    pad: object = 0
    dilation: object = None
    ceil_mode: bool = False
    count_include_pad: bool = None

    @property
    def pool_param(self):
        param = {"pool_height": self.pool[0], "pool_width": self.pool[1]}
        for name in ("stride", "pad", "dilation", "ceil_mode", "count_include_pad"):
            if getattr(self, name) is not None:
                param[name] = getattr(self, name)
        return param


def in_threads(count, work):
    """Run work(k) in `count` threads that begin together; raise what any of them raised."""
    failures, barrier = [], threading.Barrier(count)

    def run(k):
        barrier.wait(timeout=300)
        try:
            work(k)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for failure in failures:
        raise failure


def run_python(code, **environment):
    """Run code in a new interpreter, which has five minutes on a busy machine; return what it printed."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "CNNLIB_"))}
    process = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(code)],
        env={**env, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout.strip()


# Python's options for the command line without matplotlib, whose pictures take longer than a small training.
WITHOUT_PICTURES = (
    "-c",
    "import sys; sys.modules['matplotlib'] = None; from cnnlib.__main__ import main; sys.exit(main())",
)


def cnnlib_command(*arguments, start=("-m", "cnnlib")):
    """Run the command line in a process of its own."""
    command = [sys.executable, *start, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@contextlib.contextmanager
def without_bfloat16():
    """Within the block, a processor without instructions for bfloat16."""
    _core.limit_bfloat16("none")
    try:
        yield
    finally:
        _core.limit_bfloat16(os.environ.get("CNNLIB_BFLOAT16", "amx"))  # the most that there is


def lines(capsys, *command):
    """Run the command line in this process; return the lines that it prints."""
    from cnnlib.cli.main import main  # not for those who need but the layers

    capsys.readouterr()
    status = main(list(map(str, command)))
    out, err = capsys.readouterr()
    assert status == 0, err
    return out.splitlines()


def refused(capsys, *command):
    """Run the command line, which is to refuse its arguments in a line; return that line."""
    from cnnlib.cli.main import main  # not for those who need but the layers

    capsys.readouterr()
    assert main(list(map(str, command))) == 2
    err = capsys.readouterr().err
    assert err.startswith("cnnlib: error: ")
    assert err.count("\n") == 1
    return err
