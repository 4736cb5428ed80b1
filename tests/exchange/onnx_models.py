"""Hypothesis strategies: random ONNX models over every operator that `cnnlib.onnx.load` reads.

An operator gets attributes that its version allows, of which some have no counterpart in cnnlib. What the
reference evaluator refuses is left out while a model grows, so nearly all models are sound.
"""

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

OPSETS = range(7, 27)
IR_VERSION = 10
_KINDS = {"float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE, "int64": TensorProto.INT64}
# Whatever the evaluator raises for a combination that no version allows.
_NOT_SOUND = (ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError, RuntimeError)
_NOT_SOUND += (RuntimeWarning, TypeError, ValueError)


class Model:
    """A model that grows by one operator after another, with the values that it has made.

    Attributes
    ----------
    arrays : dict
        The values for one input, by their names.
    features : list of str
        The names of those that depend on the input, the last one last.
    """

    def __init__(self, draw, opset, x):
        self.draw, self.opset = draw, opset
        self.rng = np.random.default_rng(draw(st.integers(0, 2**16)))
        self.nodes, self.tensors = [], []
        self.arrays, self.features = {"x": x}, ["x"]

    # Choices --------------------------------------------------------------------------------------------

    def pick(self, *options):
        return self.draw(st.sampled_from(options))

    def chance(self, percent):
        """True in so many of a hundred cases; when an example shrinks, never."""
        return self.draw(st.integers(0, 99)) >= 100 - percent

    def number(self, low, high):
        return self.draw(st.integers(low, high))

    def some(self, **attributes):
        """Each attribute, or what leaves it at its default."""
        return {name: value for name, value in attributes.items() if self.chance(60)}

    # Values ---------------------------------------------------------------------------------------------

    def normal(self, *shape, low=None):
        dtype = self.arrays["x"].dtype
        alike = [tensor.name for tensor in self.tensors if self.arrays[tensor.name].shape == shape]
        alike = [name for name in alike if self.arrays[name].dtype == dtype]
        if low is None and alike and self.chance(20):
            return self.arrays[self.pick(*alike)]  # the same numbers, under their name or another
        array = self.rng.standard_normal(shape) if low is None else self.rng.uniform(low, low + 1.5, shape)
        return np.asarray(array).astype(dtype)

    def tensor(self, array):
        known = [tensor.name for tensor in self.tensors if self.arrays[tensor.name] is array]
        if known and self.chance(70):
            return known[0]
        name = f"t{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(array), name))
        self.arrays[name] = np.asarray(array)
        return name

    def constant(self, array):
        """A tensor, a Constant, or what operators make of constants."""
        array = np.asarray(array)
        way = self.draw(st.integers(0, 9))
        if way < 7:
            return self.tensor(array)
        if way == 7:
            return self.add("Constant", [], value=numpy_helper.from_array(array)) or self.tensor(array)
        return self.draw(st.sampled_from(FOLDED))(self, array) or self.tensor(array)

    def integers(self, kind, name, values, since, inputs, **attributes):
        """An operator whose list of integers is an attribute, and from a version on an input."""
        if self.opset < since:
            return self.add(kind, inputs, **{name: values}, **attributes)
        return self.add(kind, [*inputs, self.constant(np.array(values, np.int64))], **attributes)

    def add(self, kind, inputs, **attributes):
        """Put an operator at the end; the name of its output, or None if it is not sound."""
        if None in inputs:
            return None
        name = f"v{len(self.nodes)}"
        node = helper.make_node(kind, inputs, [name], name=f"n{len(self.nodes)}", **attributes)
        needed = [value for value in dict.fromkeys(inputs) if value]
        try:
            with np.errstate(all="ignore"):
                (value,) = evaluator([node], needed, [name], self.opset).run(
                    None, {key: self.arrays[key] for key in needed}
                )
        except _NOT_SOUND:
            return None
        value = np.asarray(value)
        if value.size > 20000 or (value.dtype.kind == "f" and not np.isfinite(value).all()):
            return None
        self.nodes.append(node)
        self.arrays[name] = value
        x = self.arrays["x"]
        sound = value.dtype == x.dtype and value.ndim > 1 and len(value) == len(x)
        if sound and set(self.features) & set(inputs):
            self.features.append(name)
        return name

    def shape(self, name):
        return self.arrays[name].shape

    def proto(self, open_sizes, outputs=None):
        """The ModelProto: sizes of the input are names where they are open; None: it gives the last value."""
        x, outputs = self.arrays["x"], outputs or self.features[-1:]
        needed, nodes = {*outputs}, []
        for node in reversed(self.nodes):
            if node.output[0] in needed:
                needed.update(node.input)
                nodes.insert(0, node)
        sizes = [letter if letter in open_sizes else size for letter, size in zip("NCHWD", x.shape)]
        kind = _KINDS[x.dtype.name]
        graph = helper.make_graph(
            nodes,
            "net",
            [helper.make_tensor_value_info("x", kind, sizes)],
            [helper.make_tensor_value_info(name, _KINDS[x.dtype.name], None) for name in outputs],
            [tensor for tensor in self.tensors if tensor.name in needed],
        )
        return helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=IR_VERSION
        )


def evaluator(nodes, inputs, outputs, opset):
    """The reference evaluator of some operators."""
    values = [
        [onnx.ValueInfoProto(name=name, type=helper.make_tensor_type_proto(1, None)) for name in names]
        for names in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, "nodes", *values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=IR_VERSION)
    return ReferenceEvaluator(model)


# Constants made by operators ----------------------------------------------------------------------------


def _twice(kind, undo=None):
    return lambda m, a: m.add(undo or kind, [m.add(kind, [m.tensor(a)])])


def _transposed(m, a):
    if a.ndim == 0:
        return None
    perm = list(m.draw(st.permutations(range(a.ndim))))
    return m.add("Transpose", [m.tensor(np.transpose(a, np.argsort(perm)))], perm=perm)


def _sliced(m, a):
    if a.ndim == 0:
        return None
    wide = m.tensor(np.concatenate([a[:1], a, a[:1]]) if a.size else a)
    if m.opset < 10:
        return m.add("Slice", [wide], starts=[1], ends=[-1], axes=[0])
    return m.add("Slice", [wide, *(m.tensor(np.array([n])) for n in (1, -1, 0))])


def _reversed(m, a):
    if a.ndim == 0 or m.opset < 10:
        return None
    bounds = (-1, -(2**63) + 1, 0, -1)
    return m.add("Slice", [m.tensor(a[::-1]), *(m.tensor(np.array([n])) for n in bounds)])


def _gathered(m, a):
    if a.ndim == 0 or not a.size:
        return None
    axis = m.number(-a.ndim, a.ndim - 1)
    order = m.rng.permutation(a.shape[axis])
    return m.add("Gather", [m.tensor(np.take(a, np.argsort(order), axis)), m.tensor(order)], axis=axis)


def _concatenated(m, a):
    if a.ndim == 0 or not a.size:
        return None
    axis = m.number(-a.ndim, a.ndim - 1)
    return m.add("Concat", [m.constant(part) for part in np.array_split(a, 2, axis)], axis=axis)


def _reshaped(m, a):
    return m.add("Reshape", [m.tensor(a.ravel()), m.constant(np.array(a.shape, np.int64))])


def _squeezed(m, a):
    axis = m.number(0, a.ndim)
    return m.integers("Squeeze", "axes", [axis], 13, [m.tensor(np.expand_dims(a, axis))])


def _unsqueezed(m, a):
    ones = [axis for axis, size in enumerate(a.shape) if size == 1]
    return m.integers("Unsqueeze", "axes", ones[:1], 13, [m.tensor(a.squeeze(ones[0]))]) if ones else None


def _arithmetic(m, a):
    kind, other = m.pick("Add", "Sub", "Mul", "Div"), m.rng.integers(1, 4, a.shape).astype(a.dtype)
    if kind == "Div" and a.dtype.kind != "f":
        return m.add("Div", [m.constant(a * other), m.tensor(other)])
    undone = {"Add": np.subtract, "Sub": np.add, "Mul": np.divide, "Div": np.multiply}[kind](a, other)
    return m.add(kind, [m.tensor(undone.astype(a.dtype)), m.tensor(other)]) if a.dtype.kind == "f" else None


def _cast(m, a):
    if a.dtype.name not in _KINDS:
        return None
    wide = {"f": np.float64, "i": np.int32}[a.dtype.kind]
    return m.add("Cast", [m.tensor(a.astype(wide))], to=_KINDS[a.dtype.name])


def _expanded(m, a):
    if a.ndim == 0 or m.opset < 8 or not a.size or (a != a.flat[0]).any():
        return None
    return m.add("Expand", [m.tensor(a.reshape(-1)[:1]), m.constant(np.array(a.shape, np.int64))])


def _filled(m, a):
    if m.opset < 9 or not a.size or (a != a.flat[0]).any():
        return None
    value = numpy_helper.from_array(a.reshape(-1)[:1])
    return m.add("ConstantOfShape", [m.constant(np.array(a.shape, np.int64))], value=value)


def _chosen(m, a):
    if m.opset < 9:
        return None
    ones = m.tensor(np.ones(a.shape, np.int64))
    return m.add("Where", [m.add("Equal", [ones, ones]), m.tensor(a), m.tensor(a + 1)])


def _bounded(m, a):
    if m.opset < 12 and a.dtype.kind != "f":
        return None
    kind, shift = m.pick(("Min", 1), ("Max", -1))
    return m.add(kind, [m.tensor(a), m.tensor(a + shift)])


def _powered(m, a):
    return m.add("Pow", [m.tensor(a), m.tensor(np.ones((), a.dtype))])


def _rooted(m, a):
    if a.dtype.kind != "f" or not a.size or a.min() <= 0:
        return None
    return m.add(m.pick("Sqrt", "Abs"), [m.tensor(a * a)]) if m.chance(50) else _twice("Reciprocal")(m, a)


def _logarithm(m, a):
    if a.dtype.kind != "f" or not a.size or a.min() <= 0:
        return None
    return m.add("Exp", [m.tensor(np.log(a))])


FOLDED = [
    *(
        _twice("Neg"),
        _twice("Identity"),
        _transposed,
        _sliced,
        _reversed,
        _gathered,
        _concatenated,
        _reshaped,
    ),
    *(_squeezed, _unsqueezed, _arithmetic, _cast, _expanded, _filled, _chosen, _bounded, _powered, _rooted),
    _logarithm,
]


# Windows ------------------------------------------------------------------------------------------------


def _window_attributes(m, spatial, kernel, dilated=True):
    strides = [m.pick(1, 1, 2, 3) for _ in kernel]
    dilations = [m.pick(1, 1, 1, 2) for _ in kernel] if dilated else [1] * len(kernel)
    attributes = m.some(strides=strides)
    if dilated:
        attributes |= m.some(dilations=dilations)
    auto = m.pick(None, None, "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")
    steps, dilations = (
        attributes.get("strides", [1] * len(kernel)),
        attributes.get("dilations", [1] * len(kernel)),
    )
    if any(s > d * (k - 1) + 1 for s, d, k in zip(steps, dilations, kernel)) and auto and "SAME" in auto:
        auto = None  # windows that leave pixels out: programs differ in where these lie
    if auto is not None:
        attributes["auto_pad"] = auto
    if auto in (None, "NOTSET") and m.chance(60):
        attributes["pads"] = [m.number(0, k - 1) for k in (*kernel, *kernel)]
    return attributes


def conv(m, x):
    C, *spatial = m.shape(x)[1:]
    groups = m.pick(*[g for g in (1, 1, 2, 3, C) if C % g == 0])
    F = groups * m.number(1, 2)
    kernel = [m.number(1, 3) for _ in spatial]
    attributes = _window_attributes(m, spatial, kernel)
    if groups > 1 or m.chance(30):
        attributes["group"] = groups
    attributes |= m.some(kernel_shape=kernel)
    bias = [m.constant(m.normal(F))] if m.chance(50) else []
    return m.add("Conv", [x, m.constant(m.normal(F, C // groups, *kernel)), *bias], **attributes)


def conv_transpose(m, x):
    C, *spatial = m.shape(x)[1:]
    groups = m.pick(*[g for g in (1, 1, 2) if C % g == 0])
    M = m.number(1, 2)
    kernel = [m.number(1, 3) for _ in spatial]
    attributes = _window_attributes(m, spatial, kernel) | m.some(kernel_shape=kernel)
    if groups > 1:
        attributes["group"] = groups
    strides = attributes.get("strides", [1] * len(kernel))
    if m.chance(30):
        attributes["output_padding"] = [m.number(0, s - 1) for s in strides]
    if m.chance(20):
        attributes["output_shape"] = [n * s for n, s in zip(spatial, strides)]
        attributes.pop("pads", None)  # which would say nothing
    bias = [m.constant(m.normal(groups * M))] if m.chance(50) else []
    return m.add("ConvTranspose", [x, m.constant(m.normal(C, M, *kernel)), *bias], **attributes)


def pool(m, x):
    kind = m.pick("MaxPool", "AveragePool")
    spatial = m.shape(x)[2:]
    kernel = [m.number(1, 3) for _ in spatial]
    dilated = m.opset >= 10 and (kind == "MaxPool" or (m.opset >= 19 and m.chance(10)))
    attributes = _window_attributes(m, spatial, kernel, dilated and m.chance(30))
    if "dilations" in attributes and "SAME" in attributes.get("auto_pad", ""):
        del attributes["auto_pad"]  # ONNX Runtime leaves dilations out of the padding
    if m.opset >= 10:
        attributes |= m.some(ceil_mode=m.pick(0, 1))
    if kind == "AveragePool":
        attributes |= m.some(count_include_pad=m.pick(0, 1))
    elif m.opset >= 8:
        attributes |= m.some(storage_order=m.pick(0, 1))
    return m.add(kind, [x], kernel_shape=kernel, **attributes)


def padded_pool(m, x):
    """A Pad, and what takes it in."""
    padded = pad(m, x)
    return padded and m.pick(pool, conv)(m, padded)


def global_pool(m, x):
    return m.add(m.pick("GlobalAveragePool", "GlobalAveragePool", "GlobalMaxPool"), [x])


def reduce_mean(m, x):
    axes = m.pick([2, 3], [2, 3], [-2, -1], [3, 2], [2, 3], [1], [-1])
    keep = m.some(keepdims=m.pick(0, 1))
    if m.opset >= 18 and m.chance(10):
        return m.add("ReduceMean", [x], noop_with_empty_axes=1, **keep)
    return m.integers("ReduceMean", "axes", axes, 18, [x], **keep)


def pad(m, x):
    spatial = len(m.shape(x)) - 2
    amounts = [0, 0, *(m.number(0, 2) for _ in range(spatial))] * 2
    if m.chance(50):
        amounts[-spatial:] = [m.number(0, 2) for _ in range(spatial)]
    value = m.pick(0.0, 0.0, 0.0, 0.0, 1.5)
    mode = {"mode": m.pick("constant", "constant", "constant", "constant", "reflect", "edge")}
    mode = mode if m.chance(20) else {}
    if m.opset < 11:
        return m.add("Pad", [x], pads=amounts, **mode, **({"value": value} if value else {}))
    dtype = m.arrays["x"].dtype
    fill = [m.constant(np.array(value, dtype))] if value else []
    if m.opset >= 18 and m.chance(40):
        half = len(amounts) // 2
        short = [*amounts[2:half], *amounts[half + 2 :]]
        axes = m.pick(list(range(2, half)), list(range(-spatial, 0)))
        names = [m.constant(np.array(values, np.int64)) for values in (short, axes)]
        return m.add("Pad", [x, names[0], *(fill or [""]), names[1]], **mode)
    return m.add("Pad", [x, m.constant(np.array(amounts, np.int64)), *fill], **mode)


def resize(m, x):
    spatial = len(m.shape(x)) - 2
    factors = [1.0, 1.0, *(float(m.pick(1, 2, 2, 3)) for _ in range(spatial))]
    if m.chance(7):
        factors[-1] = 1.5
    mode = m.pick("nearest", "linear")
    if m.opset < 10:
        if m.opset < 9:
            return m.add("Upsample", [x], mode=mode, scales=factors)
        return m.add("Upsample", [x, m.constant(np.array(factors, np.float32))], mode=mode)
    scales = np.array(factors, np.float32)
    if m.opset == 10:
        return m.add("Resize", [x, m.constant(scales)], **m.some(mode=mode))
    attributes = m.some(mode=mode)
    ways = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
    attributes |= m.some(coordinate_transformation_mode=m.pick(*ways))
    attributes |= m.some(nearest_mode=m.pick("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"))
    if m.opset >= 18 and m.chance(5):
        attributes["antialias"] = 1
    axes = list(range(spatial + 2))
    if m.opset >= 18 and m.chance(50):
        axes = m.pick(*[axes[-k:] for k in range(1, len(axes) + 1)], [2], [3, 2][: spatial + 1])
        axes = [axis for axis in axes if axis < spatial + 2]
        attributes["axes"] = [axis - spatial - 2 for axis in axes] if m.chance(50) else axes
    if m.chance(50):
        return m.add("Resize", [x, "", m.constant(scales[axes])], **attributes)
    if m.opset >= 18 and m.chance(40):
        attributes["keep_aspect_ratio_policy"] = m.pick("stretch", "not_larger", "not_smaller")
    return m.add("Resize", [x, "", "", _sizes(m, x, scales, axes)], **attributes)


def _sizes(m, x, scales, axes):
    """The sizes of a Resize, constant or computed from those of x."""
    wanted = [int(n * scale) for n, scale in zip(m.shape(x), scales)]
    shape = m.add("Shape", [x]) if m.chance(50) else None
    if shape is None:
        return m.constant(np.array(wanted, np.int64)[axes])
    whole = m.tensor(np.array(scales, np.int64))
    return m.add("Gather", [m.add("Mul", [shape, whole]), m.tensor(np.array(axes))])


# Norms --------------------------------------------------------------------------------------------------


def batch_norm(m, x):
    C = m.shape(x)[1]
    arrays = m.normal(C), m.normal(C), m.normal(C), m.normal(C, low=0.5)
    attributes = m.some(epsilon=m.pick(1e-5, 1e-3, 0.1))
    if m.opset < 14:  # the evaluator takes from the batch what the momentum leaves, and needs epsilon
        attributes = {"epsilon": 1e-5, "momentum": 1.0, **attributes}
    else:
        attributes |= m.some(momentum=m.pick(0.9, 0.5), training_mode=0)
    return m.add("BatchNormalization", [x, *map(m.constant, arrays)], **attributes)


def instance_norm(m, x):
    C = m.shape(x)[1]
    attributes = m.some(epsilon=m.pick(1e-2, 0.1))
    return m.add("InstanceNormalization", [x, m.constant(m.normal(C)), m.constant(m.normal(C))], **attributes)


def group_norm_by_reshape(m, x):
    """As exporters write it: groups of channels as the channels of a sequence."""
    C = m.shape(x)[1]
    G = m.pick(*[g for g in (1, 2, 3, C) if C % g == 0])
    groups = m.add("Reshape", [x, m.constant(np.array([0, G, -1]))])
    normed = groups and instance_norm(m, groups)
    target = m.add("Shape", [x]) if m.chance(50) else m.constant(np.array([0, *m.shape(x)[1:]]))
    return normed and m.add("Reshape", [normed, target])


def group_norm(m, x):
    if m.opset < 18:
        return None
    C = m.shape(x)[1]
    G = m.pick(*[g for g in (1, 2, 3, C) if C % g == 0])
    size = C if m.opset >= 21 else G
    attributes = m.some(epsilon=m.pick(1e-2, 0.1))
    arrays = [m.constant(m.normal(size)), m.constant(m.normal(size))]
    return m.add("GroupNormalization", [x, *arrays], num_groups=G, **attributes)


def layer_norm(m, x, usual=1):
    if m.opset < 17:
        return None
    shape = m.shape(x)
    axis = m.pick(1, 1, 1, -1, 2, 1 - len(shape)) if m.chance(15) else usual
    if not -len(shape) <= axis < len(shape):
        return None
    attributes = {"axis": axis} if axis != -1 else m.some(axis=axis)
    attributes |= m.some(epsilon=m.pick(1e-2, 0.1))
    norm = shape[axis:]
    bias = [m.constant(m.normal(*norm))] if m.chance(60) else []
    return m.add("LayerNormalization", [x, m.constant(m.normal(*norm)), *bias], **attributes)


def layer_norm_of_pixels(m, x):
    last = m.add("Transpose", [x], perm=[0, 2, 3, 1])
    normed = last and layer_norm(m, last, usual=-1)
    return normed and m.add("Transpose", [normed], perm=[0, 3, 1, 2])


# Products -----------------------------------------------------------------------------------------------


def gemm(m, x):
    N, D = m.shape(x)
    M = m.number(1, 4)
    attributes = m.some(
        alpha=m.pick(1.0, 0.5, 2.0), beta=m.pick(1.0, 0.5, 0.0), transB=m.pick(0, 1), transA=0
    )
    w = m.normal(M, D) if attributes.get("transB") else m.normal(D, M)
    bias = []
    if m.chance(60) or m.opset < 11:
        shapes = [(M,), (M,), (1, M), (1,), ()] if m.chance(90) else [(N, M), (N, 1)]
        bias = [m.constant(m.normal(*m.pick(*shapes)))]
    return m.add("Gemm", [x, m.constant(w), *bias], **attributes)


def matmul(m, x):
    out = m.add("MatMul", [x, m.constant(m.normal(m.shape(x)[-1], m.number(1, 4)))])
    return out and m.add("Add", [out, m.constant(m.normal(m.shape(out)[-1]))]) if m.chance(40) else out


def matmul_of_pixels(m, x):
    last = m.add("Transpose", [x], perm=[0, 2, 3, 1])
    out = last and matmul(m, last)
    return out and m.add("Transpose", [out], perm=[0, 3, 1, 2])


# Activations --------------------------------------------------------------------------------------------


def activation(m, x):
    kind = m.pick(*ACTIVATIONS)
    since, attributes = ACTIVATIONS[kind]
    if m.opset < since:
        return None
    return m.add(kind, [x], **m.some(**{name: m.pick(*values) for name, values in attributes.items()}))


ACTIVATIONS = {
    "Relu": (1, {}),
    "Sigmoid": (1, {}),
    "Tanh": (1, {}),
    "HardSwish": (14, {}),
    "HardSigmoid": (1, {"alpha": [0.2, 1 / 6, 0.5], "beta": [0.5] * 9 + [0.4]}),
    "LeakyRelu": (1, {"alpha": [0.01, 0.2, 0.0]}),
    "Elu": (1, {"alpha": [1.0, 0.5, 2.0]}),
    "Celu": (12, {"alpha": [1.0, 0.5, 2.0]}),
    "Selu": (1, {"alpha": [1.67326, 1.0], "gamma": [1.0507, 2.0]}),
    "Swish": (24, {"alpha": [1.0, 1.0, 1.5]}),
    "Gelu": (20, {"approximate": ["none", "tanh"]}),
    "Identity": (1, {}),
}


def prelu(m, x):
    shape = m.shape(x)
    sizes = m.pick((1,), (1,), (shape[1], *(1,) * (len(shape) - 2)), (shape[-1],))
    slope = (
        np.full(sizes, 0.25) if m.chance(80) else np.linspace(0.1, 0.5, int(np.prod(sizes))).reshape(sizes)
    )
    return m.add("PRelu", [x, m.constant(slope.astype(m.arrays["x"].dtype))])


def clip(m, x):
    low, high = m.pick((0, 6), (0, 6), (0, 1), (0, None), (0, 20)) if m.chance(92) else (-1, 1)
    if m.opset < 11:
        bounds = {"min": low, "max": high}
        return m.add("Clip", [x], **{k: float(v) for k, v in bounds.items() if v is not None})
    dtype = m.arrays["x"].dtype
    names = ["" if bound is None else m.constant(np.array(bound, dtype)) for bound in (low, high)]
    return m.add("Clip", [x, *(names if names[-1] else names[:1])])


def softmax(m, x):
    rank = len(m.shape(x))
    axis = m.pick(1, 1 - rank) if m.chance(92) else -1
    return m.add("Softmax", [x], **({"axis": axis} if m.opset >= 13 or m.chance(70) else {}))


def dropout(m, x):
    if m.opset < 12:
        return m.add("Dropout", [x], **m.some(ratio=0.3))
    inputs = [x, m.constant(np.array(0.3, np.float32))] if m.chance(50) else [x]
    if len(inputs) == 2 and m.chance(50):
        inputs.append(m.constant(np.array(False)))
    return m.add("Dropout", inputs, **m.some(seed=3))


def cast(m, x):
    return m.add("Cast", [x], to=_KINDS[m.arrays["x"].dtype.name])


def written_out(m, x):
    """Activations that exporters write as several operators."""
    dtype = m.arrays["x"].dtype

    def number(value):
        return m.tensor(np.array(value, dtype))

    kind = m.pick("silu", "gelu", "hard_swish", "hard_swish_by_clip", "hard_sigmoid_by_clip")
    if kind == "silu":
        return m.add("Mul", [x, m.add("Sigmoid", [x])])
    if kind == "gelu":
        erf = m.opset >= 9 and m.add("Erf", [m.add("Div", [x, number(np.sqrt(2))])])
        return erf and m.add("Mul", [m.add("Mul", [x, m.add("Add", [erf, number(1)])]), number(0.5)])
    if kind == "hard_swish":
        gate = m.add("HardSigmoid", [x], alpha=m.pick(1 / 6, 0.2))
        return m.add("Mul", [x, gate])
    shifted = m.add("Add", [x, number(3)])
    if m.opset < 11:
        gate = m.add("Clip", [shifted], min=0.0, max=6.0)
    else:
        gate = m.add("Clip", [shifted, number(0), number(6)])
    if kind == "hard_sigmoid_by_clip":
        return m.add("Div", [gate, number(6)])
    return gate and m.add("Div", [m.add("Mul", [x, gate]), number(6)])


# Sums and products --------------------------------------------------------------------------------------


def arithmetic(m, x):
    """With a constant of any shape that spreads over x, or over which x spreads."""
    shape = m.shape(x)
    by_channel = (shape[1], *(1,) * (len(shape) - 2))
    shapes = [(), (1,), by_channel, by_channel, (1, *by_channel), (1,) * len(shape)]
    if len(shape) == 2 and m.chance(80):
        shapes = [(), (1,), (1, 1)]
    if m.chance(7):
        shapes = [shape[-1:], shape[1:], (1,) * (len(shape) + 1), shape, shape[2:], (1, 1, 1)]
    constant = m.constant(m.normal(*m.pick(*shapes), low=0.5))
    kind = m.pick("Add", "Sub", "Mul", "Div")
    swapped = (kind != "Div" and m.chance(40)) or m.chance(3)
    return m.add(kind, [constant, x] if swapped else [x, constant])


def joined(m, x):
    """With another value."""
    kind, shape = m.pick("Add", "Sub", "Mul", "Sum", "Mean", "Mul"), m.shape(x)
    pixels = (*shape[:2], *(1,) * (len(shape) - 2))
    like = [name for name in m.features if m.shape(name) in (shape, pixels)]
    other = m.pick(*like)
    if m.chance(8):
        other = m.pick(*m.features)
    if len(shape) == 4 and m.chance(25):  # squeeze and excitation
        other = m.add("Sigmoid", [m.add("GlobalAveragePool", [x])])
    inputs = [x, other] if m.chance(50) else [other, x]
    if kind in ("Sum", "Mean") and m.chance(30):
        inputs.append(x)
    return m.add(kind, inputs)


def concat(m, x):
    shape = m.shape(x)
    like = [n for n in m.features if m.shape(n)[:1] + m.shape(n)[2:] == shape[:1] + shape[2:]]
    axis = m.pick(1, 1, 1 - len(shape)) if m.chance(95) else -1
    others = [m.pick(*like) for _ in range(m.number(0, 2))]
    return m.add("Concat", [x, *others], axis=axis)


# Views --------------------------------------------------------------------------------------------------


def flattened(m, x):
    shape = m.shape(x)
    D = int(np.prod(shape[1:]))
    way = m.number(0, 6)
    if way < 2:
        return m.add("Flatten", [x], **m.some(axis=m.pick(1, 1, 1 - len(shape), 2, 0)))
    if way == 2:
        return m.add("Reshape", [x, m.constant(np.array(m.pick([0, -1], [-1, D], [shape[0], -1], [0, D])))])
    if way == 3:
        count = m.add("Gather", [m.add("Shape", [x]), m.tensor(np.array(0))], axis=0)
        count = m.integers("Unsqueeze", "axes", [0], 13, [count])
        target = m.add("Concat", [count, m.tensor(np.array([m.pick(-1, D)]))], axis=0)
        return m.add("Reshape", [x, target])
    if way == 4 and len(shape) == 4 and shape[2:] == (1, 1):
        return m.integers("Squeeze", "axes", m.pick([2, 3], [-1, -2], [3]), 13, [x])
    if way == 5:  # all sizes from Shape
        sizes = m.add("Shape", [x])
        if m.opset >= 15 and m.chance(50):
            count = m.add("Shape", [x], start=0, end=1)
        else:
            count = m.add("Gather", [sizes, m.tensor(np.array([0]))])
        rest = m.add("Gather", [sizes, m.tensor(np.arange(1, len(shape)))])
        product = m.integers("ReduceProd", "axes", [0], 18, [rest], keepdims=1)
        return m.add("Reshape", [x, m.add("Concat", [count, product], axis=0)])
    return m.add("Flatten", [x])


def viewed(m, x):
    shape = m.shape(x)
    way = m.number(0, 5)
    if way == 0:
        return m.integers("Unsqueeze", "axes", [m.pick(2, len(shape), 1, -1)], 13, [x])
    if way == 1:
        return m.add("Reshape", [x, m.add("Shape", [x])])
    if way == 2:
        return m.add("Reshape", [x, m.constant(np.array([0, *shape[1:]]))])
    if way == 3 and len(shape) == 2:
        return m.add(
            "Reshape", [x, m.constant(np.array([*m.pick((0,), (-1,), (shape[0],)), shape[1], 1, 1]))]
        )
    if way == 4:
        return m.integers("Squeeze", "axes", [1 + int(np.argmin(shape[1:]))], 13, [x])
    perm = m.pick([0, 2, 3, 1], [0, 1, 2, 3]) if len(shape) == 4 else None
    if perm and m.chance(15):
        perm = m.pick([0, 3, 1, 2], [0, 1, 3, 2])
    return m.add("Transpose", [x], perm=perm or list(range(len(shape))))


def sandwiched(m, x):
    """An operator on pixels whose channels are last, or on their rows as if these were channels."""
    last = m.add("Transpose", [x], perm=[0, 2, 3, 1])
    made = m.pick(activation, arithmetic, softmax, clip, batch_norm, *LAST)(m, last) if last else None
    return made and len(m.shape(made)) == 4 and m.add("Transpose", [made], perm=[0, 3, 1, 2])


LAST = [prelu, concat, joined, instance_norm, reduce_mean, conv, pool, resize, dropout, flattened]


ANYWHERE = [activation, activation, prelu, clip, softmax, dropout, cast, written_out, arithmetic, arithmetic]
ANYWHERE += [joined, joined, concat, batch_norm, layer_norm]
OF_IMAGES = [conv, conv, conv, conv_transpose, pool, pool, pool, padded_pool, pad, resize, resize]
OF_IMAGES += [instance_norm, group_norm, layer_norm_of_pixels, matmul_of_pixels, sandwiched, sandwiched]
OF_IMAGES += [group_norm_by_reshape, viewed]
TO_PIXELS = [global_pool, global_pool, reduce_mean]
OF_ROWS = [gemm, gemm, gemm, matmul, viewed]
OF_SEQUENCES = [conv, pool]


def operators_for(shape, last):
    """What may come behind a value of that shape."""
    if len(shape) == 4:
        found = [*OF_IMAGES, *ANYWHERE]
        if shape[2:] == (1, 1):
            found = [conv, *ANYWHERE, flattened, flattened, viewed]
        return [*found, *TO_PIXELS, flattened] if last else [*found, global_pool]
    if len(shape) == 2:
        return [*OF_ROWS, *ANYWHERE]
    return [*OF_SEQUENCES, *(operator for operator in ANYWHERE if operator is not batch_norm), flattened]


@st.composite
def models(draw):
    """A Model of one to six operators."""
    opset = draw(st.sampled_from([13, 21, 17, 18, 11, *OPSETS]))
    rank = draw(st.sampled_from([4, 4, 4, 4, 4, 4, 2, 3, 5]))
    sizes = [draw(st.integers(1, 6)) for _ in range(rank - 2)]
    x = np.random.default_rng(0).standard_normal((2, draw(st.integers(1, 4)), *(n + 2 for n in sizes)))
    model = Model(draw, opset, x.astype(draw(st.sampled_from(["float32"] * 4 + ["float64"]))))
    count = draw(st.integers(1, 6))
    for number in range(count):
        at = model.features[-1] if model.chance(85) else model.pick(*model.features)
        if 0 in model.shape(at):  # values of nothing, which few operators define
            break
        operator = draw(st.sampled_from(operators_for(model.shape(at), number >= count - 2)))
        operator(model, at)
    return model
