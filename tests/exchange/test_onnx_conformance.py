"""The operator conformance cases of the onnx package, computed with the layers.

Run as a script, this prints how many cases of each operator the layers can express, and how many pass.
"""

from collections import Counter

import numpy as np
import pytest

pytest.importorskip("onnx", reason="onnx is not installed")

from onnx_cases import ADAPTERS, Inexpressible, run_case, shipped_cases

VOLUMES = "images of three dimensions"
AVERAGE_DILATION = "average pooling has no dilation"
SAMPLE_BIAS = "a bias for each sample; an affine layer adds one row to all"

# Every shipped case that is not computed, and why. Versions of onnx differ in what they ship.
NOT_EXPRESSIBLE = {
    "node/test_averagepool_2d_dilations": AVERAGE_DILATION,
    "node/test_gemm_default_matrix_bias": SAMPLE_BIAS,
    "pytorch-operator/test_operator_addmm": SAMPLE_BIAS,
    "node/test_averagepool_3d_dilations_large_count_include_pad_is_0_ceil_mode_is_False": AVERAGE_DILATION,
    "node/test_averagepool_3d_dilations_large_count_include_pad_is_0_ceil_mode_is_True": AVERAGE_DILATION,
    "node/test_averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_False": AVERAGE_DILATION,
    "node/test_averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_True": AVERAGE_DILATION,
    "node/test_averagepool_3d_dilations_small": AVERAGE_DILATION,
    "node/test_convtranspose_3d": VOLUMES,
}

# Outputs that no layer returns; the other outputs of these cases are compared.
NOT_RETURNED = {"LayerNormalization": {"Mean", "InvStdDev"}}

# At least as many cases are computed, whatever the version.
FLOORS = {
    "Conv": 26,
    "ConvTranspose": 10,
    "MaxPool": 20,
    "AveragePool": 15,
    "GlobalAveragePool": 2,
    "BatchNormalization": 7,
    "LayerNormalization": 15,
    "GroupNormalization": 2,
    "InstanceNormalization": 1,
    "Relu": 2,
    "Sigmoid": 2,
    "Tanh": 2,
    "HardSwish": 1,
    "HardSigmoid": 2,
    "Elu": 2,
    "Gelu": 4,
    "Softmax": 4,
    "LeakyRelu": 4,
    "Gemm": 10,
}


def cases_of(operator):
    return [case for case in shipped_cases() if case.operator == operator]


def check(case):
    """Compute a case and compare it, to the tolerance that it comes with."""
    got = run_case(case)
    assert case.wanted.keys() - got.keys() <= NOT_RETURNED.get(case.operator, set())
    for name, value in got.items():
        wanted = case.wanted[name]
        assert value.dtype == (np.float64 if wanted.dtype == np.uint8 else wanted.dtype)  # the dtype rule
        np.testing.assert_allclose(value, wanted, rtol=case.rtol, atol=case.atol, err_msg=name)


@pytest.mark.parametrize("operator", ADAPTERS)
def test_conformance(operator):
    failures, computed = [], 0
    for case in cases_of(operator):
        if case.name in NOT_EXPRESSIBLE:
            continue
        computed += 1
        try:
            check(case)
        except (AssertionError, Inexpressible, ValueError, TypeError, KeyError) as problem:
            failures.append(f"{case.name}: {type(problem).__name__}: {problem}")
    assert not failures, "\n".join(failures)
    assert computed >= FLOORS[operator]


def test_what_is_left_out_cannot_be_expressed():
    """The table names no case that could be computed after all."""
    for case in shipped_cases():
        if case.name in NOT_EXPRESSIBLE:
            with pytest.raises(Inexpressible):
                run_case(case)


def test_no_case_counts_twice():
    names = [case.name for case in shipped_cases()]
    assert len(names) == len(set(names))


def report():
    shipped, expressible, passed = Counter(), Counter(), Counter()
    for case in shipped_cases():
        shipped[case.operator] += 1
        if case.name in NOT_EXPRESSIBLE:
            print(f"{case.name}: not expressible: {NOT_EXPRESSIBLE[case.name]}")
            continue
        expressible[case.operator] += 1
        try:
            check(case)
            passed[case.operator] += 1
        except Exception as problem:
            print(f"{case.name}: {type(problem).__name__}: {problem}")
    print(f"{'':20}{'shipped':>12}{'expressible':>12}{'pass':>12}")
    for operator in ADAPTERS:
        print(f"{operator:20}{shipped[operator]:12}{expressible[operator]:12}{passed[operator]:12}")
    print(f"{'all':20}{shipped.total():12}{expressible.total():12}{passed.total():12}")


if __name__ == "__main__":
    report()
