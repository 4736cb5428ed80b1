"""A fuzz target that puts programs of prepared networks together: their bindings trust nobody."""

import numpy as np
from calls import REFUSALS, conv_param, geometry
from cnnlib import _core
from source import Source

KINDS = ["relu", "leaky_relu", "relu6", "sigmoid", "silu", "gelu", "elu", "tanh"]


def steps(source, dtype, C, H, W):
    """Of each method of a program arguments, mostly such that its results are as large as its inputs."""
    A = source.array
    like, pixels = np.empty((0, C, H, W), dtype), A((C, C, 1, 1), dtype)
    K = source.choice([1, 3, 1, 5])
    flag, S, D = source.flag(), H * W, C * H * W
    same = {"pad": K // 2} if source.byte() % 4 else conv_param(source)
    pool = (3, 3, 1, 1, 1, 1, 1, 1, 1, 1) if source.byte() % 4 else geometry(source)
    bound = source.choice([None, np.inf, 6.0, source.number()])
    return {
        "conv": (like, A((C, C, K, K), dtype), source.choice([None, A(C, dtype)]), same, flag, bound),
        "conv_transpose": (
            like,
            pixels,
            source.choice([None, A(C, dtype)]),
            {},
            flag,
            source.choice([None, bound]),
        ),
        "affine": (A((D, D), dtype) if D <= 256 else pixels, source.choice([None, A(D, dtype)]), bound),
        "max_pool": (like, pool, flag),
        "avg_pool": (like, pool, flag, not flag),
        "normalize": (S, A(C, "f8"), A(C, "f8"), A(C, dtype), A(C, dtype), bound),
        "row_norm": (
            source.choice([(1, C, S, C, 1), (C, 1, S, C, 1), (S, C, 1, C, S), (1, 1, S, C, 2)]),
            *(1e-3, A(C, dtype), A(C, dtype)),
        ),
        "activation": (like, source.choice([*KINDS, source.garbage()]), source.number()),
        "softmax": (like,),
        "adaptive_max_pool": (like, source.choice([(H, W), (1, 1)])),
        "adaptive_avg_pool": (like, source.choice([(H, W), (1, 1)])),
        "upsample": (like, (1, source.choice([1, 1, 2])), flag, False),
    }


def inverted_residual(source, dtype, place, C, H, W):
    """Arguments of the three convolutions in one."""
    D, A = source.choice([2 * C, C, 1, 16]), source.array
    shapes = [(D, C, 1, 1), (D, 1, 3, 3), (C, D, 1, 1)]
    layers = [
        (
            A(shape, dtype),
            source.choice([None, A(shape[0], dtype)]),
            source.choice([None, 6.0, np.inf]),
        )
        for shape in shapes
    ]
    param = {"pad": 1, "groups": D} if source.byte() % 4 else conv_param(source)
    if source.chance(4):
        at = source.byte() % 3
        layers[at] = (source.state_of(layers[at][0]), *layers[at][1:])
    other = source.choice([-1, 0, 1, place[1], 9])
    return "", place[0], other, place[1], np.empty((0, C, H, W), dtype), layers, param


def program(data):
    """A few steps between four values, of which numbers and arrays are now and then others; then it runs."""
    source = Source(data)
    dtype = source.choice(["f4", "f8"])
    C, H, W = source.choice([4, 1, 3, 9]), source.choice([5, 1, 8]), source.choice([6, 1, 17])
    size = C * H * W
    held = size * np.dtype(dtype).itemsize
    room = -(-held // 64) * 64
    values = [(0, held, 0), (2, held, 0), (2, held, room), (1, held, 0)]
    numbers = [held, held, 2 * room]

    def other(value):
        return source.choice([value + 1, value - 1, 2 * value, -value, source.integer()])

    if source.chance(4):
        place, part = source.byte() % len(values), source.byte() % 3
        values[place] = tuple(other(v) if i == part else v for i, v in enumerate(values[place]))
    if source.chance(6):
        numbers[source.byte() % 3] = other(held)
    _core.use_isa(source.choice(_core.available_isas()))
    try:
        live = source.chance(3)
        made = _core.Program(np.dtype(dtype), values, *numbers, live)
        told = []  # arrays that a live program knows of
        for _ in range(source.choice([1, 2, 3, 5])):
            place = (
                [source.byte() % 3, 1 + source.byte() % 3] if source.byte() % 8 else [source.byte() - 9, 3]
            )
            if source.chance(5):
                joined = source.choice([C, size, 1, source.integer()])
                second = source.choice([place[0], 0, 1, 2, 9])
                if source.flag():
                    made.sum("", place[0], second, place[1], joined, source.flag())
                else:
                    made.product("", place[0], second, place[1], joined)
                continue
            if source.chance(6):
                arguments = inverted_residual(source, dtype, place, C, H, W)
                made.inverted_residual(*arguments)
                told += [array for w, b, *_ in arguments[5] for array in (w, b) if array is not None]
                continue
            if source.chance(6):
                sizes = [C, source.choice([C, 1]), H, H, W, W]
                if source.chance(4):
                    sizes[source.byte() % 6] = other(C)
                planes = [source.array((1, heads, rows, H), dtype) for heads, rows in ((C, H), (1, 1))]
                bias = source.choice([None, *planes])
                made.attention("", [place[0]] * 3, place[1], sizes, bias, 0.5, source.flag())
                continue
            if source.chance(6):
                made.concat("", [place[0]] * source.choice([1, 1, 2, 0]), place[1])
                continue
            table = steps(source, dtype, C, H, W)
            name = source.choice(list(table))
            arguments = list(table[name])
            if arguments and source.chance(3):
                at = source.byte() % len(arguments)
                value = arguments[at]
                arguments[at] = source.state_of(value) if isinstance(value, np.ndarray) else source.garbage()
            if live and name == "normalize":
                arguments[1:3] = None, None
            getattr(made, name)("", *place, *arguments)
            first = {"conv": 1, "conv_transpose": 1, "affine": 0, "normalize": 3, "row_norm": 2}.get(name, 9)
            told += [array for array in arguments[first : first + 2] if array is not None]
        N = source.choice([2, 1, 0, 5])
        x, shape = source.array((N, C, H, W), dtype), [N, C, H, W]
        if source.chance(5):
            x, shape = source.state_of(x), source.choice([shape, [N, C], [], [N, -C, -H, W], [2**40, size]])
        if live:
            if told and source.chance(4):
                told[source.byte() % len(told)] = source.garbage()
            norms = [(1e-3, source.array(C, dtype), source.array(C, dtype))] * (source.byte() % 3)
            weights = made.weights(told, norms, None)
            made.scores(x, made.weights(told, norms, source.choice([weights, None])), shape)
            if source.chance(3):
                made.affine("", 0, 3, source.array((size, size), dtype), None, False)
            made.scores(x, weights, shape)
        made.run(x, shape)
        made.profile(x, shape, source.choice([1, 0, 2]))
        bytes_ = source.array((N, C, H * W), "u1")
        made.run_bytes(bytes_, source.array(C, dtype), source.array(source.choice([C, 1]), dtype), shape)
    except REFUSALS:
        pass
