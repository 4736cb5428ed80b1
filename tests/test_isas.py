"""Each instruction set forced by CNNLIB_ISA, as CI and users do it: every layer agrees with the loops."""

import os
import platform
import shutil
import subprocess
import sys

import pytest
from cnnlib import _core
from helpers import run_python


@pytest.mark.parametrize("name", _core.available_isas())
@pytest.mark.parametrize("threads", ["1", "3"])
def test_layers_agree_with_the_loops(name, threads):
    code = f"""
        import sys
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        import numpy as np
        from cnnlib import _core
        from helpers import LAYERS, TOLERANCE, as_tuple
        rng = np.random.default_rng(7)
        compared = 0
        for layer in LAYERS:
            given = layer.arrays(rng)
            out, cache = layer.naive_forward(*given, *layer.rest())
            dout = rng.standard_normal(out.shape).astype(np.float32).astype(np.float64)
            want = [out, *as_tuple(layer.naive_backward(dout, cache))]
            for dtype in (np.float32, np.float64):
                got = layer.run([array.astype(dtype) for array in given], dout.astype(dtype))
                for g, w in zip(got, want, strict=True):
                    scale = max(np.max(np.abs(w)), np.max(np.abs(dout)))
                    assert g.dtype == dtype
                    np.testing.assert_allclose(g, w, rtol=0, atol=TOLERANCE[np.dtype(dtype)] * scale)
                    compared += 1
        print(_core.active_isa(), compared)
        """
    printed, compared = run_python(code, CNNLIB_ISA=name, OMP_NUM_THREADS=threads).split()
    assert printed == name
    assert int(compared) > 100


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the processor is another one")
@pytest.mark.skipif(shutil.which("qemu-x86_64") is None, reason="qemu-user is not installed")
def test_the_baseline_runs_on_a_processor_of_2008():
    """Emulated: an instruction that it does not have would end the process."""
    program = os.path.join(os.path.dirname(__file__), "every_layer.py")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.run(
        ["qemu-x86_64", "-cpu", "Nehalem", sys.executable, program],
        env={key: value for key, value in environment.items() if key != "CNNLIB_ISA"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    assert process.stdout.startswith("base: ")
