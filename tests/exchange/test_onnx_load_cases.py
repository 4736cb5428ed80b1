"""The operators' cases that the onnx package ships, read by cnnlib.onnx.load.

What a case gives besides its first input becomes a constant. Run as a script, this prints how many cases of
each operator there are, how many are read, and how many of these give what the case wants; with -v also why
the others are not read.
"""

import sys
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is not installed")

import cnnlib.onnx
import onnx
from cnnlib.onnx.reading.network import OPERATORS
from onnx_cases import shipped_tests, stored

# At least as many cases of an operator are read, whatever the version of the onnx package.
FLOORS = {
    **{"Conv": 15, "ConvTranspose": 10, "MaxPool": 12, "AveragePool": 12, "GlobalAveragePool": 2},
    **{"GlobalMaxPool": 2, "BatchNormalization": 4, "InstanceNormalization": 2, "GroupNormalization": 2},
    **{"LayerNormalization": 2, "Gemm": 8, "MatMul": 1, "Relu": 2, "LeakyRelu": 3, "PRelu": 4, "Elu": 3},
    **{"Celu": 1, "Selu": 3, "Sigmoid": 2, "Tanh": 2, "HardSigmoid": 1, "HardSwish": 1, "Gelu": 2},
    **{"Softmax": 4, "Dropout": 2, "Flatten": 3, "Transpose": 1, "Resize": 4, "Upsample": 1, "Pad": 1},
}


@dataclass
class Case:
    """A model of one operator, its inputs and the output wanted."""

    name: str
    operator: str
    model: onnx.ModelProto
    inputs: list
    wanted: np.ndarray

    def result(self):
        """The output of the model in which all inputs but the first are tensors of its own."""
        model = onnx.ModelProto.FromString(self.model.SerializeToString())
        stored = {tensor.name for tensor in model.graph.initializer}
        names = [value.name for value in model.graph.input if value.name not in stored]
        for name, value in list(zip(names, self.inputs, strict=True))[1:]:
            model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
        del model.graph.output[1:]
        return cnnlib.onnx.load(model).loss(self.inputs[0])

    def check(self):
        """Compare, if the case is read at all; returns whether it is."""
        try:
            got = self.result()
        except ValueError as error:
            if "-v" in sys.argv and __name__ == "__main__":
                print(f"{self.name}: {error}")
            return False
        assert got.dtype == self.wanted.dtype
        np.testing.assert_allclose(got, self.wanted, rtol=1e-3, atol=1e-5, err_msg=self.name)
        return True


def cases():
    """The shipped cases of a single operator that `load` knows, in floating point."""
    for test, model in shipped_tests(OPERATORS):
        operators = [node.op_type for node in model.graph.node if node.op_type != "Constant"]
        if len(operators) != 1 or operators[0] not in OPERATORS:
            continue
        for number, (inputs, outputs) in enumerate(test.data_sets or stored(test.model_dir)):
            arrays = all(isinstance(value, np.ndarray) for value in (*inputs, *outputs))
            if arrays and outputs[0].dtype in (np.float32, np.float64):
                name = f"{test.kind}/{test.name}/{number}"
                yield Case(name, operators[0], model, list(inputs), outputs[0])


def by_operator():
    found = {}
    for case in cases():
        found.setdefault(case.operator, []).append(case)
    return found


@pytest.fixture(scope="module")
def shipped():
    return by_operator()


@pytest.mark.parametrize("operator", FLOORS)
def test_cases_that_are_read_give_what_they_want(operator, shipped):
    assert sum(case.check() for case in shipped[operator]) >= FLOORS[operator]


def test_no_other_operator_is_wrong(shipped):
    for operator in shipped.keys() - FLOORS.keys():
        for case in shipped[operator]:
            case.check()


def report():
    counts = {column: Counter() for column in ("shipped", "read", "pass")}
    for operator, group in by_operator().items():
        for case in group:
            counts["shipped"][operator] += 1
            try:
                read = case.check()
                counts["pass"][operator] += read
            except AssertionError as problem:
                print(problem)
                read = True
            counts["read"][operator] += read
    print(f"{'':24}" + "".join(f"{column:>9}" for column in counts))
    for operator in sorted(counts["shipped"]):
        print(f"{operator:24}" + "".join(f"{counter[operator]:9}" for counter in counts.values()))
    print(f"{'all':24}" + "".join(f"{counter.total():9}" for counter in counts.values()))


if __name__ == "__main__":
    report()
