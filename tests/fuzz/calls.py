"""
Fuzz targets that call: the bindings, which trust nobody, and the public layers with their caches.

A target takes bytes. Whatever these ask for, it returns, or raises an AssertionError: anything else than a
result or one of the errors promised is a finding, and so is a crash.
"""

import functools

import cnnlib
import numpy as np
from cnnlib import _core
from source import Source

REFUSALS = (ValueError, TypeError, KeyError, MemoryError)


def step(source):
    """A stride, dilation or padding."""
    value = source.choice([1, 1, 2, 3, 0])
    return source.choice([value, value, (value, source.choice([1, 2, 0])), source.garbage()])


def conv_param(source):
    param = {}
    for key in ("stride", "dilation", "pad", "output_pad"):
        if source.chance(3) or (key == "pad" and source.flag()):
            param[key] = step(source)
    if source.chance(4):
        param["pad"] = source.choice(["same", "valid", "full", ((0, 1), (1, 0)), ((1, 2), 0), (1, 1)])
    if source.chance(4):
        param["groups"] = source.choice([1, 2, 3, source.integer()])
    if source.chance(4):
        param["algorithm"] = source.choice([*_core.conv_methods, "auto", "none", source.garbage()])
    if source.chance(30):
        param[source.choice(["strides", 1, None, ""])] = 1
    return source.garbage() if source.chance(40) else param


def geometry(source):
    """Pool's height and width, strides, pads, dilations."""
    numbers = [source.choice([2, 1, 3, 5, 17]) for _ in range(2)] + [
        source.choice([1, 2, 3]) for _ in range(2)
    ]
    numbers += [source.choice([0, 0, 1, 2]) for _ in range(4)] + [source.choice([1, 1, 2]) for _ in range(2)]
    if source.chance(6):
        numbers[source.byte() % 10] = source.integer()
    return tuple(numbers)


def pool_param(source):
    PH, PW, sh, sw, *pads, dh, dw = geometry(source)
    param = {
        "pool_height": PH,
        "pool_width": PW,
        "stride": (sh, sw),
        "pad": tuple(zip(pads[::2], pads[1::2])),
    }
    if source.flag():
        param["dilation"] = dh, dw
    if source.flag():
        param["ceil_mode"] = source.choice([True, False, source.garbage()])
    if source.chance(20):
        param[source.choice(["stride", "pad", "pool_height", "count_include_pad", 3])] = source.garbage()
    return source.garbage() if source.chance(40) else param


def bn_param(source, C):
    param = {"mode": source.choice(["train", "test"])}
    if source.flag():
        param |= {"running_mean": source.array(C, "f8"), "running_var": source.array(C, "f8")}
    if source.chance(8):
        param[source.choice(["eps", "momentum", "mode", "running_mean", "running_var"])] = source.garbage()
    return param


def images(source):
    shape = (source.choice([1, 2, 0]), source.size(), source.size(), source.size())
    return tuple(min(n, 17) for n in shape)


def sequences_or_volumes(source, name):
    """Arguments of the layers along 1 or 3 axes."""
    count = 1 if "1d" in name else 3
    dtype, sizes = source.choice(["f4", "f8"]), [min(source.size(), 9) for _ in range(count)]
    N, C, F = source.choice([1, 2, 0]), source.choice([1, 2, 4]), source.choice([1, 2, 4])
    taps = [source.choice([1, 2, 3]) for _ in range(count)]
    number = source.choice([1, 2, [1] * count, [2] * count, 0, source.integer(), source.garbage()])
    param = {source.choice(["stride", "pad", "dilation", "groups", "ceil_mode"]): number}
    x = source.state_of(source.array((N, C, *sizes), dtype))
    if name.startswith("conv"):
        w, b = source.array((F, C, *taps), dtype), source.array((F,), dtype)
        return [x, source.state_of(w), source.choice([None, b]), param]
    names = ("pool_depth", "pool_height", "pool_width")[-count:]
    return [x, dict(zip(names, taps)) | param]


def attention_arguments(source):
    """Draw q, k, v and attention_param."""
    dtype = source.choice(["f4", "f8"])
    N, kv, L, S, D, Dv = source.choice([1, 2, 0]), source.choice([1, 2]), *(source.size() for _ in range(4))
    heads = kv * source.choice([1, 1, 2])
    shapes = (N, heads, min(L, 70), D), (N, kv, min(S, 110), D), (N, kv, min(S, 110), Dv)
    param = {"causal": source.flag()}
    if source.flag():
        bias = [source.choice([size, 1]) for size in (N, heads, min(L, 70), min(S, 110))]
        param["bias"] = source.array(tuple(bias), source.choice([dtype, "?"]))
    if source.chance(8):
        param[source.choice(["scale", "causal", "bias", "mask"])] = source.choice([2.0, source.garbage()])
    arrays = [source.state_of(source.array(shape, dtype)) for shape in shapes]
    return [*arrays, source.garbage() if source.chance(40) else param]


def layer_arguments(source, name):
    """Arguments that mostly fit each other."""
    if name == "attention":
        return attention_arguments(source)
    if name.endswith(("1d", "3d")):
        return sequences_or_volumes(source, name)
    dtype = source.choice(["f4", "f8"])
    x = images(source)
    N, C, H, _ = x
    F, K = source.size(), source.choice([3, 1, 2, 5, 7])
    w = (C, F, K, source.choice([K, 1])) if name == "conv_transpose" else (F, C, K, source.choice([K, 1]))
    if "affine" in name:
        x, w = (N, C, H), (C * H, F)
    elif name in ("batchnorm", "layernorm"):
        x = (N, C)
    channels = F if "_bn" in name else C
    shapes = {"x": x, "w": w, "b": (F,), "gamma": (channels,), "beta": (channels,)}
    names = ["x"]
    if name.startswith(("conv", "affine")):
        names += ["w", "b"]
    if "bn" in name or "norm" in name:
        names += ["gamma", "beta"]
    arrays = [source.array(shapes[n], dtype) for n in names]
    arrays = [source.state_of(array) for array in arrays]
    rest = []
    if name.startswith("conv"):
        rest.append(conv_param(source))
    if "bn" in name or "batchnorm" in name:
        rest.append(bn_param(source, channels))
    if name.startswith(("adaptive", "upsample")):
        rest.append(source.choice([1, 2, (1, 3), (7, 2), source.integer(), source.garbage()]))
    elif "pool" in name and name != "global_avg_pool":
        rest.append(pool_param(source))
    if name == "upsample":
        rest += [source.choice(["nearest", "bilinear", source.garbage()]), source.flag()]
    if name in ("layernorm", "spatial_layernorm", "spatial_instancenorm"):
        rest.append({"eps": source.number()} if source.flag() else source.choice([{}, source.garbage()]))
    if name == "spatial_groupnorm":
        rest += [source.choice([1, 2, C, source.integer()]), {}]
    if name in ("leaky_relu", "elu"):
        rest.append(source.number())
    if name == "gelu":
        rest.append(source.choice(["none", "tanh", source.garbage()]))
    if name == "dropout":
        rest.append({"p": source.number(), "mode": source.choice(["train", "test"]), "seed": 3})
    return arrays + rest


LAYERS = [name.removesuffix("_forward") for name in cnnlib.layers.__all__ if name.endswith("_forward")]


def corrupted(source, cache):
    """The cache with one of its parts replaced."""
    if isinstance(cache, tuple) and cache and source.byte() % 8:
        place = source.byte() % len(cache)
        return (*cache[:place], corrupted(source, cache[place]), *cache[place + 1 :])
    if isinstance(cache, np.ndarray):
        return source.state_of(cache)
    return source.choice([source.garbage(), None, (), cache])


def refused(function, error):
    """Errors that are no accident name their function."""
    message = str(error.args[0]) if error.args else ""
    assert message.startswith(f"{function}: "), f"{function} raised {error!r}"


def layers(data):
    """A public layer, its backward pass, and once more with its cache corrupted."""
    source = Source(data)
    name = source.choice(LAYERS)
    forward, backward = getattr(cnnlib, f"{name}_forward"), getattr(cnnlib, f"{name}_backward")
    try:
        with np.errstate(all="ignore"):
            out, cache = forward(*layer_arguments(source, name))
    except REFUSALS as error:
        refused(forward.__name__, error)
        return
    dout = source.array(out.shape, out.dtype)
    for wrong in (False, True):
        try:
            backward(source.state_of(dout) if wrong else dout, corrupted(source, cache) if wrong else cache)
        except REFUSALS as error:
            if not wrong:
                raise AssertionError(f"{name} refuses its own cache") from error
            refused(backward.__name__, error)


def fitting_call(source, name):
    """Arguments of a binding that fit each other."""
    dtype, A = source.choice(["f4", "f8"]), source.array
    V = functools.partial(A, dtype=dtype)
    x = N, C, H, W = images(source)
    F, M, K = source.size(), source.size(), source.choice([1, 2, 3, 5])
    n, flags = (C, H), [source.flag() for _ in range(3)]
    out = (N, F, max(H - K + 1, 0), max(W - K + 1, 0))
    conv = V(x), V((F, C, K, K))
    needs = source.choice([None, (), ("dx",), ("dw", "db"), ("dx", 3)])
    ndim = source.choice([2, 4])
    normed = x if ndim == 4 else x[:2]
    stats = A(C, "f8"), A(C, "f8")
    g = geometry(source)
    pooled = (N, C, *(min(max((n - g[i]) // max(g[i + 2], 1) + 1, 0), 40) for i, n in enumerate((H, W))))
    plain = (*g[:4], 0, 0, 0, 0, 1, 1)
    groups = source.choice([1, C])
    update = V(n), V(n), source.number()
    calls = {
        "conv_forward": ("f", *conv, V(F), conv_param(source), flags[0], None),
        "ready_conv_forward": ("f", *conv, None, conv_param(source), flags[0]),
        "conv_backward": ("f", V(out), *conv, {}, flags),
        "ready_conv_backward": ("f", V(out), (*conv, None, {}), needs),
        "conv_transpose_forward": ("f", V(x), V((C, F, K, K)), V(F), conv_param(source), flags[0], None),
        "conv_transpose_backward": ("f", V((N, F, H + K - 1, W + K - 1)), V(x), V((C, F, K, K)), {}, flags),
        "conv_bn_relu_backward": (
            "f",
            V(out),
            *conv,
            V(out),
            A(F, "f8"),
            A(F, "f8"),
            V(F),
            V(F),
            flags[0],
            {},
            flags,
        ),
        "conv_plans": (*conv, conv_param(source)),
        "conv_adds": (*conv, conv_param(source)),
        "bfloat_conv_fits": ((C, H, W, 0, 0, 0, 0), conv[1], conv_param(source), flags[0]),
        "max_pool_forward": ("f", V(x), g, flags[0], None),
        "max_pool_backward": (
            "f",
            V(pooled),
            V(x),
            plain,
            False,
            source.choice([None, A(pooled, "u1"), A(pooled, "u4"), np.full(pooled, 255, np.uint8)]),
        ),
        "avg_pool_forward": ("f", V(x), g, flags[0], flags[1], None),
        "avg_pool_backward": ("f", V(pooled), V(x), plain, False, flags[1]),
        "global_avg_pool_forward": (V(x), None),
        "global_avg_pool_backward": (V((N, C)), x),
        "batchnorm_train": ("f", V(normed), ndim, V(C), V(C), 0.1, flags[0], None),
        "moved_statistic": ("f", V(C), A(C, "f8"), source.number()),
        "batchnorm_normalize": ("f", V(normed), ndim, *stats, V(C), V(C), flags[0], None),
        "batchnorm_backward": (
            "f",
            V(normed),
            V(normed),
            ndim,
            *stats,
            V(C),
            source.choice([None, V(C)]),
            flags[0],
        ),
        "rownorm_forward": ("f", V(normed), ndim, V(C), V(C), groups, 0.1, None, flags[0]),
        "rownorm_backward": (
            "f",
            V(normed),
            V(normed),
            ndim,
            A(N * groups, "f8"),
            A(N * groups, "f8"),
            V(C),
            groups,
            False,
        ),
        "affine_forward": ("f", V((N, C)), V((C, M)), V(M), flags[0], False),
        "affine_backward": ("f", V((N, M)), V((N, C)), V((C, M)), flags, False),
        "softmax_loss": ("f", V((N, C)), np.abs(A(N, "i8")) % C, V(C), 0),
        "pointwise_loss": (
            source.choice(["mse_loss", "l1_loss", "huber_loss", "bce_loss"]),
            *(V(x), V(x), 1.0, None),
        ),
        "dice_loss": ("f", V(x), V(x), N * C),
        "relu_forward": (V(x),),
        "relu_backward": ("f", V(x), V(x)),
        "relu_mask": ("f", V(x)),
        "relu_backward_by_mask": ("f", V(x), A(-(-N * C * H * W // 8), "u1")),
        "add": ("f", V(x), V(x)),
        "add_to": ("f", V(x), V(x)),
        "add_relu": ("f", V(x), V(x)),
        "multiply": ("f", V(x), V(x)),
        "activation_forward": (
            "f",
            V(x),
            source.choice(["leaky_relu", "silu", "elu", "gelu", "sigmoid", "tanh"]),
            0.1,
        ),
        "activation_backward": ("f", V(x), V(x), "gelu_tanh", 0.1),
        "softmax_forward": ("f", V(normed), flags[0]),
        "softmax_backward": ("f", V(normed), V(normed)),
        "adaptive_avg_pool_forward": ("f", V(x), (2, K), None),
        "adaptive_avg_pool_backward": ("f", V((N, C, 2, K)), V(x), (2, K)),
        "adaptive_max_pool_forward": ("f", V(x), (2, K), None),
        "adaptive_max_pool_backward": ("f", V((N, C, 2, K)), V(x), (2, K), A((N, C, 2, K), "i8")),
        "upsample_forward": ("f", V(x), (2, K), flags[0], flags[1], None),
        "upsample_backward": ("f", V((N, C, 2 * H, K * W)), V(x), (2, K), flags[0], flags[1]),
        "attention_forward": (
            *("f", V((N, 2 * K, H, C)), V((N, K, W, C)), V((N, K, W, F))),
            *(source.choice([None, V((1, 2 * K, H, W)), V((1, 1, 1, W))]), 0.5, *flags[:2]),
        ),
        "attention_backward": (
            *("f", V((N, 2 * K, H, F)), V((N, 2 * K, H, C)), V((N, K, W, C)), V((N, K, W, F))),
            *(source.choice([None, V((1, 2 * K, H, W)), V((1, 1, 1, W))]), 0.5, flags[0]),
            *(V((N, 2 * K, H, F)), V((N, 2 * K, H)), V((N, 2 * K, H)), flags[1]),
        ),
        "sgd_step": (*update, 0.1),
        "momentum_step": (*update, V(n), 0.1, 0.9, flags[0]),
        "rmsprop_step": (*update, V(n), 0.1, 0.9, 1e-8),
        "adam_step": (*update, V(n), V(n), 0.1, 0.9, 0.99, 1e-8, 0.1, 3),
        "sum_of_squares": (V(x),),
        "ready_dtype": (("x", "b"), (V(x), V(C))),
        "new_array": ("f", x, np.dtype(dtype)),
    }
    return list(calls[name])


# The rest of the module sets up the process, and has tests of its own; for PreparedConv, Program and Training
# tests/kernels/test_prepared_conv.py, programs.py and tests/models/test_training_program.py.
SETTERS = set(
    """
    use_isa active_isa available_isas active_products int8_limit limit_int8
    active_bfloat16 bfloat16_limit limit_bfloat16
    set_num_threads get_num_threads use_thread_pool notice_missing_cores MissingCores physical_cores
    system_cores conv_bn_relu_scratch restart_scratch_peak scratch_peak release_buffers buffer_counts
    buffer_bytes
    memory_limit cgroup_memory_limit cgroup_cpus set_conv_algorithm get_conv_algorithm caches system_caches
    PreparedConv Program Weights Training Batch
    """.split()
)
BINDINGS = sorted(name for name, value in vars(_core).items() if callable(value) and name not in SETTERS)


def bindings(data):
    """A function of _core with arguments that fit, of which none, one or two are then replaced."""
    source = Source(data)
    name = source.choice(BINDINGS)
    arguments = fitting_call(source, name)
    replaced = source.choice([0, 1, 1, 2])
    for _ in range(replaced):
        place = source.byte() % len(arguments)
        value = arguments[place]
        if isinstance(value, str):
            continue  # the function's name for messages, always the package's own
        arguments[place] = source.state_of(value) if isinstance(value, np.ndarray) else source.garbage()
    _core.use_isa(source.choice(_core.available_isas()))
    try:
        getattr(_core, name)(*arguments)
    except REFUSALS:
        pass  # the public layers' messages count, not these
