"""Random small graphs of tensor operators in float64: files beside onnx's evaluator, modules beside PyTorch.

    PYTHONPATH=tests:tests/exchange python tests/exchange/random_graphs.py onnx --count 10000
    PYTHONPATH=tests:tests/exchange python tests/exchange/random_graphs.py torch --first 30 --count 10000

counts what is right, what is refused, and by which message; a wrong graph ends it with its seed.
"""

import argparse
import collections
import logging
import math
import re
import sys
import warnings

import cnnlib.onnx
import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator
from onnx_nets import model

SAMPLES = 2
OPSET = 23
STEPS = (2, 6)  # of a graph, at least and below
MOST = 4096  # numbers of a value: larger ones get no further operator
CLOSE = 1e-6  # of the largest number: onnx's evaluator takes attributes for the float32 that files hold


def any_axis(rng, rank):
    """An axis that is not that of the samples, counted from either end."""
    return int(rng.integers(1, rank)) - rank * int(rng.integers(2))


class Step:
    """An operator that is drawn: `x` is what it reads, of `shape`; constants get names of their own."""

    def __init__(self, rng, number, x, shape, others):
        self.rng, self.number, self.x, self.shape, self.rank = rng, number, x, shape, len(shape)
        self.others = others  # names of values of the same shape
        self.constants = {}
        self.out = f"v{number}"
        self.inner = 0

    def constant(self, value, dtype=np.int64):
        """The name of a constant: numbers, or normally distributed ones of a shape."""
        name = f"k{self.number}_{len(self.constants)}"
        self.constants[name] = np.asarray(value, dtype)
        return name

    def normal(self, shape):
        return self.constant(self.rng.standard_normal(shape), np.float64)

    def axis(self):
        return any_axis(self.rng, self.rank)

    def name(self):
        self.inner += 1
        return f"t{self.number}_{self.inner}"

    def one(self, *choices):
        return choices[self.rng.integers(len(choices))]


def _each(kind, attributes=""):
    return lambda s: f"{s.out} = {kind}{attributes}({s.x})"


def _bounded(kind, shift=0.0):
    """Of numbers between -1 and 1, or above a half."""

    def draw(s):
        t = s.name()
        if not shift:
            return f"{t} = Tanh({s.x}) {s.out} = {kind}({t})"
        u = s.name()
        k = s.constant(shift, np.float64)
        return f"{t} = Sigmoid({s.x}) {u} = Add({t}, {k}) {s.out} = {kind}({u})"

    return draw


def _reduced(kind):
    def draw(s):
        axes = [any_axis(s.rng, s.rank)]
        keep = int(s.rank == 2 or s.rng.integers(2))
        other = s.axis()
        if s.rank > 3 and other % s.rank != axes[0] % s.rank:
            axes.append(other)
        return f"{s.out} = {kind}<keepdims={keep}>({s.x}, {s.constant(axes)})"

    return draw


def _two(kind):
    def draw(s):
        other = s.one(*s.others, "")
        if other and s.rng.integers(2):
            return f"{s.out} = {kind}({s.x}, {other})"
        if s.rng.integers(3) == 0:  # a value with axes of 1
            t, u = s.name(), s.name()
            first = f"{t} = ReduceMean({s.x}, {s.constant([s.axis()])}) "
            return f"{first}{u} = Tanh({s.x}) {s.out} = {kind}({t}, {u})"
        shape = [n if s.rng.integers(2) else 1 for n in s.shape[1:]]
        k = s.normal(shape[int(s.rng.integers(len(shape))) :] if s.rng.integers(2) else [1, *shape])
        return f"{s.out} = {kind}({s.x}, {k})" if s.rng.integers(2) else f"{s.out} = {kind}({k}, {s.x})"

    return draw


def _divide(s):
    k = s.constant(
        np.abs(s.rng.standard_normal([n if s.rng.integers(2) else 1 for n in s.shape[1:]])) + 0.5, np.float64
    )
    if s.rng.integers(2):
        return f"{s.out} = Div({s.x}, {k})"
    t, u = s.name(), s.name()
    one = s.constant(1.5, np.float64)
    return f"{t} = Tanh({s.x}) {u} = Add({t}, {one}) {s.out} = Div({s.one(s.x, k)}, {u})"


def _concat(s):
    t = s.name()
    parts = [s.x, t, *s.others[:1]][: 1 + s.rng.integers(3)]
    return f"{t} = Tanh({s.x}) {s.out} = Concat<axis={s.axis()}>({', '.join(parts)})"


def _concat_constant(s):
    axis = any_axis(s.rng, s.rank)
    shape = [1, *s.shape[1:]]
    shape[axis] = 2
    k = s.constant(np.broadcast_to(s.rng.standard_normal(shape), (1, *shape[1:])), np.float64)
    e = s.name()
    # a file spreads a token over the samples by their number
    n, m, rest = s.name(), s.name(), s.constant(shape[1:])
    return (
        f"{n} = Shape<start=0, end=1>({s.x}) {m} = Concat<axis=0>({n}, {rest}) {e} = Expand({k}, {m}) "
        f"{s.out} = Concat<axis={axis}>({e}, {s.x})"
    )


def _transpose(s):
    others = [int(a) for a in s.rng.permutation(range(1, s.rank))]
    return f"{s.out} = Transpose<perm={[0, *others]}>({s.x})"


def _samples_elsewhere(s):
    """An operator on a value whose samples are on another axis."""
    order = [int(a) for a in s.rng.permutation(s.rank)]
    place = order.index(0)
    axis = s.one(*(a for a in range(s.rank) if a != place))
    t, u = s.name(), s.name()
    inner = s.one(
        f"Softmax<axis={axis}>({t})",
        f"ReduceMean({t}, {s.constant([axis])})",
        f"Tanh({t})",
        f"Concat<axis={axis}>({t}, {t})",
    )
    back = [order.index(a) for a in range(s.rank)]
    return f"{t} = Transpose<perm={order}>({s.x}) {u} = {inner} {s.out} = Transpose<perm={back}>({u})"


def _samples_folded(s):
    """Windows share the axis of the samples."""
    shape = s.shape[1:]
    cut = int(s.rng.integers(1, len(shape))) if len(shape) > 1 else 0
    t, u = s.name(), s.name()
    folded = s.constant([-1, *(shape[cut:] if cut else shape)])
    back = s.constant([-1, *shape])
    inner = s.one(f"Softmax<axis=-1>({t})", f"Sigmoid({t})", f"Mul({t}, {t})")
    return f"{t} = Reshape({s.x}, {folded}) {u} = {inner} {s.out} = Reshape({u}, {back})"


def _reshape(s):
    shape = list(s.shape[1:])
    total = math.prod(shape)
    sizes = s.one([-1], [1, -1], shape[::-1], [*shape, 1], [total])
    if len(shape) > 1 and s.rng.integers(2):
        cut = int(s.rng.integers(len(shape) - 1))
        sizes = [*shape[:cut], shape[cut] * shape[cut + 1], *shape[cut + 2 :]]
    if -1 in sizes:
        return f"{s.out} = Reshape({s.x}, {s.constant([0, *sizes])})"
    return f"{s.out} = Reshape({s.x}, {s.constant([-1, *sizes])})"


def _slice(s):
    axis = s.axis()
    size = s.shape[axis]
    low, high = sorted(int(n) for n in s.rng.choice(size + 1, 2, replace=False))
    step = s.one(1, 1, 2, -1, -2)
    ends = (low, high) if step > 0 else (high - 1, low - 1 if low else -99)
    if step > 0 and s.rng.integers(2):  # counted from the end
        ends = (low - size, high - size if high < size else 2**62)
    a, b, c, d = (s.constant([n]) for n in (*ends, axis, step))
    return f"{s.out} = Slice({s.x}, {a}, {b}, {c}, {d})"


def _split(s):
    axis = s.axis()
    size = s.shape[axis]
    if size < 2:
        return f"{s.out} = Split<axis={axis}>({s.x}, {s.constant([size])})"
    first = int(s.rng.integers(1, size))
    a, b = s.name(), s.name()
    parts = s.constant([first, size - first])
    return f"{a}, {b} = Split<axis={axis}>({s.x}, {parts}) {s.out} = Concat<axis={axis}>({b}, {a})"


def _gather(s):
    axis = s.axis()
    size = s.shape[axis]
    count = int(s.rng.integers(3)) if s.rank > 2 else 1 + int(s.rng.integers(2))
    indices = s.constant(s.rng.integers(-size, size, size=(2, 3)[:count]))
    return f"{s.out} = Gather<axis={axis}>({s.x}, {indices})"


def _unsqueeze(s):
    axis = s.one(*range(1, s.rank + 1), -1)
    t = s.name()
    if s.rng.integers(2):
        return f"{s.out} = Unsqueeze({s.x}, {s.constant([axis])})"
    return f"{t} = Unsqueeze({s.x}, {s.constant([axis])}) {s.out} = Squeeze({t}, {s.constant([axis])})"


def _expand(s):
    t = s.name()
    mean = f"{t} = ReduceMean({s.x}, {s.constant([s.axis()])}) "
    return f"{mean}{s.out} = Expand({t}, {s.constant([1, *s.shape[1:]])})"


def _tile(s):
    return (
        f"{s.out} = Tile({s.x}, {s.constant([1, *(int(n) for n in s.rng.integers(1, 3, size=s.rank - 1))])})"
    )


def _pad(s):
    most = min(s.shape[1:])
    mode = s.one("constant", "edge", "reflect") if most > 2 else s.one("constant", "edge")
    pads = [n for _ in range(2) for n in (0, *s.rng.integers(0, 3, size=s.rank - 1).tolist())]
    value = f", {s.constant(0.75, np.float64)}" if mode == "constant" and s.rng.integers(2) else ""
    return f'{s.out} = Pad<mode="{mode}">({s.x}, {s.constant(pads)}{value})'


def _where(s):
    mask = s.constant(s.rng.random([n if s.rng.integers(3) else 1 for n in s.shape[1:]]) < 0.5, bool)
    other = s.one(*s.others, s.normal([s.shape[-1] if s.rng.integers(2) else 1]))
    pair = (s.x, other) if s.rng.integers(2) else (other, s.x)
    return f"{s.out} = Where({mask}, {pair[0]}, {pair[1]})"


def _matmul(s):
    if s.rank > 2 and s.rng.integers(2):
        t, u = s.name(), s.name()
        order = [*range(s.rank - 2), s.rank - 1, s.rank - 2]
        k = s.constant(1 / s.shape[-1], np.float64)
        return f"{t} = Transpose<perm={order}>({s.x}) {u} = MatMul({s.x}, {t}) {s.out} = Mul({u}, {k})"
    if s.rank > 2 and s.rng.integers(2):
        return f"{s.out} = MatMul({s.normal((3, s.shape[-2]))}, {s.x})"
    return f"{s.out} = MatMul({s.x}, {s.normal((s.shape[-1], 3))})"


def _layer_norm(s):
    axis = s.axis()
    shape = s.shape[axis % s.rank :]
    return f"{s.out} = LayerNormalization<axis={axis}>({s.x}, {s.normal(shape)}, {s.normal(shape)})"


def _einsum(s):
    letters = "nabcdefg"[: s.rank]
    last = letters[-1]
    k = s.normal((s.shape[-1], 2))
    return f'{s.out} = Einsum<equation="{letters},{last}z->{letters[:-1]}z">({s.x}, {k})'


def _attention(s):
    """As exporters spell it out, over the last two axes."""
    if s.rank < 3:
        return _each("Tanh")(s)
    t, a, b, c = (s.name() for _ in range(4))
    order = [*range(s.rank - 2), s.rank - 1, s.rank - 2]
    scale = s.constant(0.3, np.float64)
    return (
        f"{t} = Transpose<perm={order}>({s.x}) {a} = MatMul({s.x}, {t}) {b} = Mul({a}, {scale}) "
        f"{c} = Softmax<axis=-1>({b}) {s.out} = MatMul({c}, {s.x})"
    )


def _attention_layer(s):
    if s.rank != 4:
        return _each("Tanh")(s)
    mask = s.normal((s.shape[2], s.shape[2]))
    return f"{s.out} = Attention<is_causal={s.one(0, 1)}>({s.x}, {s.x}, {s.x}, {mask})"


def _images(draw):
    """An operator of images alone, elsewhere another one."""
    return lambda s: draw(s) if s.rank == 4 else _each("Tanh")(s)


def _resize(s):
    size = s.constant([s.shape[0], s.shape[1], *s.rng.integers(1, 9, size=2).tolist()])
    mode = s.one("nearest", "linear", "cubic")
    axes = s.one("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners", "half_pixel_symmetric")
    rounding = s.one("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    attributes = f'mode="{mode}", coordinate_transformation_mode="{axes}", nearest_mode="{rounding}"'
    return f"{s.out} = Resize<{attributes}, cubic_coeff_a=-0.75>({s.x}, , , {size})"


def _conv(s):
    w = s.normal((3, s.shape[1], 1, 1))
    return f"{s.out} = Conv({s.x}, {w}, {s.normal((3,))})"


def _blocks(s):
    t = s.name()
    return (
        f"{t} = Concat<axis=1>({', '.join([s.x] * 4)}) "
        f'{s.out} = DepthToSpace<blocksize=2, mode="{s.one("CRD", "DCR")}">({t})'
    )


def _power(s):
    t, u = s.name(), s.name()
    k = s.constant(0.5, np.float64)
    exponent = s.constant(s.one(0.5, 1.5, 2.0, 3.0, -1.0), np.float64)
    return f"{t} = Sigmoid({s.x}) {u} = Add({t}, {k}) {s.out} = Pow({u}, {exponent})"


def _slopes(s):
    slopes = [s.shape[1], *(1,) * (s.rank - 2)]  # of the channels
    return f"{s.out} = PRelu({s.x}, {s.normal(slopes)})"


KINDS = {
    **{kind: _each(kind) for kind in ("Tanh", "Sigmoid", "Relu", "Abs", "Softplus", "Mish", "Neg", "Elu")},
    **{kind: _each(kind) for kind in ("LeakyRelu", "HardSwish", "Gelu", "Identity")},
    "HardSigmoid": _each("HardSigmoid", "<alpha=0.3, beta=0.4>"),
    "Exp": _bounded("Exp"),
    **{kind: _bounded(kind, 0.5) for kind in ("Log", "Sqrt", "Reciprocal")},
    **{f"Reduce{kind}": _reduced(f"Reduce{kind}") for kind in ("Sum", "Mean", "Max", "Min", "L2")},
    **{kind: _two(kind) for kind in ("Add", "Sub", "Mul", "Min", "Max")},
    "Softmax": lambda s: f"{s.out} = Softmax<axis={s.axis()}>({s.x})",
    "LogSoftmax": lambda s: f"{s.out} = LogSoftmax<axis={s.axis()}>({s.x})",
    "Clip": lambda s: (
        f"{s.out} = Clip({s.x}, {s.constant(-0.5, np.float64)}, {s.constant(0.25, np.float64)})"
    ),
    "Div": _divide,
    "Concat": _concat,
    "a token": _concat_constant,
    "Transpose": _transpose,
    "samples elsewhere": _samples_elsewhere,
    "samples folded": _samples_folded,
    "Reshape": _reshape,
    "Flatten": lambda s: f"{s.out} = Flatten({s.x})",
    "Slice": _slice,
    "Split": _split,
    "Gather": _gather,
    "Unsqueeze": _unsqueeze,
    "Expand": _expand,
    "Tile": _tile,
    "Pad": _pad,
    "Where": _where,
    "MatMul": _matmul,
    "LayerNormalization": _layer_norm,
    "Einsum": _einsum,
    "attention spelled out": _attention,
    "Attention": _attention_layer,
    "Resize": _images(_resize),
    "Conv": _images(_conv),
    "DepthToSpace": _images(_blocks),
    "GlobalAveragePool": _images(lambda s: f"{s.out} = GlobalAveragePool({s.x})"),
    "AveragePool": _images(lambda s: f"{s.out} = AveragePool<kernel_shape=[1,1]>({s.x})"),
    "Pow": _power,
    "PRelu": _slopes,
}


def onnx_graph(seed):
    """A random file, its input and the output that onnx's evaluator gives; the names of its operators."""
    rng = np.random.default_rng(seed)
    shape = (SAMPLES, *(int(n) for n in rng.integers(1, 6, size=rng.integers(1, 5))))
    x = rng.standard_normal(shape)
    values, lines, constants, kinds = {"x": x}, [], {}, []
    names = list(KINDS)
    count = int(rng.integers(*STEPS))
    for number in range(count):
        known = list(values)
        read = known[-1] if rng.integers(3) else known[rng.integers(len(known))]
        array = values[read]
        if array.size > MOST or array.ndim > 6:
            continue
        kind = names[seed % len(names)] if number == 0 else names[rng.integers(len(names))]
        others = [name for name in known if values[name].shape == array.shape and name != read]
        step = Step(rng, number, read, array.shape, others)
        line = KINDS[kind](step)
        alone = model(line, step.constants, ("N", *array.shape[1:]), OPSET, "double", step.out)
        proto = alone.graph
        for name in {n for node in proto.node for n in node.input} & values.keys():
            if name != "x":
                shaped = ["N", *values[name].shape[1:]]
                proto.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, shaped))
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            (made,) = ReferenceEvaluator(alone).run(None, {n.name: values[n.name] for n in proto.input})
        lines.append(line)
        constants |= step.constants
        kinds.append(kind)
        values[step.out] = np.asarray(made)
    last = list(values)[-1]
    proto = model(" ".join(lines), constants, ("N", *shape[1:]), OPSET, "double", last)
    return proto, x, values[last], kinds


def check_onnx(seed):
    """'' where the network that is read of a random file gives what onnx does, else why it is refused."""
    proto, x, want, kinds = onnx_graph(seed)
    where = f"seed {seed}: {', '.join(kinds)}"
    try:
        net = cnnlib.onnx.load(proto)
    except ValueError as error:
        return str(error)
    with np.errstate(all="ignore"):
        got = net(x)
    assert got.shape == want.shape, f"{where}: {got.shape}, expected {want.shape}"
    assert got.dtype == np.float64, where
    np.testing.assert_allclose(got, want, rtol=0, atol=CLOSE * max(1, np.abs(want).max()), err_msg=where)
    return ""


def check_torch(seed):
    import test_torch_tensors

    try:
        test_torch_tensors.check_chain(seed)
    except ValueError as error:
        return str(error)
    return ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("library", choices=("onnx", "torch"))
    parser.add_argument("--first", type=int, default=0, help="seed")
    parser.add_argument("--count", type=int, default=1000)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable()
    check = check_onnx if args.library == "onnx" else check_torch
    refused, examples, wrong = collections.Counter(), {}, []
    for seed in range(args.first, args.first + args.count):
        try:
            why = check(seed)
        except Exception as error:  # an error of ours, too, is a wrong answer
            wrong.append(seed)
            print(f"seed {seed}: {type(error).__name__}: {str(error).strip()[:600]}", flush=True)
            continue
        if why:
            message = re.sub(r"'[^']*'|\d+", "_", why)[:160]
            refused[message] += 1
            examples.setdefault(message, seed)
    right = args.count - len(wrong) - refused.total()
    print(f"{args.count} graphs: {right} right, {refused.total()} refused, {len(wrong)} wrong {wrong[:20]}")
    for message, count in refused.most_common(20):
        print(f"{count:6} {message} (seed {examples[message]})")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
