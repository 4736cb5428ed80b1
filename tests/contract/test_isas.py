"""Each instruction set forced by CNNLIB_ISA, as CI and users do it: every layer agrees with the loops."""

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cnnlib import _core
from helpers import FOLDER, run_python

pytestmark = pytest.mark.sets

CPP = Path(__file__).parents[2] / "cpp"
COMPILER = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


@pytest.mark.parametrize("name", _core.available_isas())
@pytest.mark.parametrize("threads", ["1", "3"])
def test_layers_agree_with_the_loops(name, threads):
    code = f"""
        import sys
        sys.path.insert(0, {FOLDER!r})
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


# A build with the baseline alone, but for its kernels; prints the error of CNNLIB_ISA.
SMALL_BUILD = """
#include "machine/instruction_sets.cpp"
#include "dispatch.cpp"
#include <cstdio>
namespace cnnlib {
bool may_use_tile_registers() { return false; }
const Isa& base::isa() {
  alignas(Isa) static unsigned char memory[sizeof(Isa)];
  Isa& table = reinterpret_cast<Isa&>(memory);
  table.name = "base";
  return table;
}
}
int main() try {
  std::puts(cnnlib::active_isa().name);
} catch (const std::exception& error) {
  std::puts(error.what());
}
"""


@pytest.mark.skipif(COMPILER is None or not CPP.is_dir(), reason="needs a C++ compiler and the sources")
def test_a_set_that_the_build_left_out(tmp_path):
    (tmp_path / "small.cpp").write_text(SMALL_BUILD)
    options = ["-std=c++17", f"-I{CPP}", "-DCNNLIB_HAVE_BASE", '-DCNNLIB_ISAS_LEFT_OUT="avx2, avx512"']
    program = str(tmp_path / "small")
    subprocess.run([COMPILER, *options, str(tmp_path / "small.cpp"), "-o", program], check=True)
    for name, printed in {
        "base": "base",
        "avx2": "CNNLIB_ISA: instruction set 'avx2' is not available in this build, but with "
        "CNNLIB_ISAS=all; choose one of: base",
        "avx": "CNNLIB_ISA: instruction set 'avx' is not available here; choose one of: base",
    }.items():
        run = subprocess.run([program], env={"CNNLIB_ISA": name}, capture_output=True, text=True)
        assert run.stdout == f"{printed}\n"


def every_layer(*before):
    """The lines that tests/every_layer.py prints, one for each instruction set."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    if before:  # what NumPy's BLAS is told of this processor is wrong for the emulated one
        environment = {
            k: v for k, v in environment.items() if k not in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
        }
    process = subprocess.run(
        [*before, sys.executable, os.path.join(FOLDER, "every_layer.py")],
        env={key: value for key, value in environment.items() if key != "CNNLIB_ISA"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout.splitlines()


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the processor is another one")
@pytest.mark.skipif(shutil.which("qemu-x86_64") is None, reason="qemu-user is not installed")
@pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="qemu does not emulate what a sanitizer needs")
def test_older_processors_compute_the_same_bits():
    """Emulated: an instruction that a processor does not have would end the process."""
    here = [line for line in every_layer() if not line.startswith("avx512")]
    assert here[-1].startswith("base: ")
    assert every_layer("qemu-x86_64", "-cpu", "Nehalem") == here[-1:]  # of 2008
    if _emulates_avx2():
        assert every_layer("qemu-x86_64", "-cpu", "Haswell")[-len(here) :] == here  # of 2013


def _emulates_avx2():
    """qemu does from its version 7.2 on."""
    version = subprocess.run(["qemu-x86_64", "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(map(int, re.search(r"version (\d+)\.(\d+)", version).groups())) >= (7, 2)
