"""docs/add-a-kernel.md: its kernel compiles and equals its loops; the files that it names exist."""

import ctypes
import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "add-a-kernel.md"
if not PAGE.exists() or not (ROOT / "cpp").is_dir():
    pytest.skip("the tests lie elsewhere than in a checkout", allow_module_level=True)

PROGRAM = """
#include "kernels/elementwise/activation_functions.hpp"
namespace cnnlib::CNNLIB_ISA {{
{kernel}
}}
template <class T>
void run(const T* x, const T* dout, T* out, T* dx, long n) {{
  using S = cnnlib::CNNLIB_ISA::Simd<T>;
  const cnnlib::CNNLIB_ISA::Softsign<T> function;
  for (long i = 0; i + S::size <= n; i += S::size) {{
    S::store(out + i, function.value(S::load(x + i)));
    S::store(dx + i, function.gradient(S::load(dout + i), S::load(x + i)));
  }}
}}
#define EXPORT(name, T) \\
  extern "C" void name(const T* x, const T* dout, T* out, T* dx, long n) {{ run(x, dout, out, dx, n); }}
EXPORT(of_float32, float)
EXPORT(of_float64, double)
"""


def blocks(language):
    return re.findall(
        rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )


def eigen():
    """Where Eigen's headers lie, beside Python's packages or in the system."""
    package = importlib.util.find_spec("cmeel")
    places = [Path("/usr/include/eigen3")]
    if package is not None and package.origin:
        places.append(Path(package.origin).parents[1] / "cmeel.prefix" / "include" / "eigen3")
    return next((place for place in places if (place / "Eigen" / "Core").exists()), None)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    if shutil.which("g++") is None or eigen() is None:
        pytest.skip("it needs g++ and Eigen's headers")
    folder = tmp_path_factory.mktemp("kernel")
    (kernel,) = blocks("cpp")
    (folder / "kernel.cpp").write_text(PROGRAM.format(kernel=kernel), encoding="utf-8")
    command = ["g++", "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    command += [
        f"-I{ROOT / 'cpp'}",
        "-isystem",
        str(eigen()),
        "-DCNNLIB_ISA=base",
        '-DCNNLIB_ISA_NAME="base"',
    ]
    command += ["-DEigen=Eigen_base", "kernel.cpp", "-o", "kernel.so"]
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return ctypes.CDLL(str(folder / "kernel.so"))


def test_the_kernel_equals_the_loops(library, dtype, rng):
    names = {}
    exec(blocks("python")[0], names)
    x, dout = 4 * rng.standard_normal(64).astype(dtype), rng.standard_normal(64).astype(dtype)
    out, dx = np.empty_like(x), np.empty_like(x)
    run = getattr(library, f"of_{dtype.name}")
    run(*(ctypes.c_void_p(array.ctypes.data) for array in (x, dout, out, dx)), ctypes.c_long(len(x)))
    wide, cache = names["softsign_forward_naive"](x.astype(np.float64))
    tolerance = 1e-6 if dtype == np.float32 else 1e-14
    np.testing.assert_allclose(out, wide, rtol=tolerance)
    np.testing.assert_allclose(dx, names["softsign_backward_naive"](dout, cache), rtol=2 * tolerance)


def test_an_infinity_has_the_limits_value(library):
    x = np.full(64, np.inf)
    out, dx = np.empty_like(x), np.empty_like(x)
    run = library.of_float64
    run(*(ctypes.c_void_p(array.ctypes.data) for array in (x, np.ones(64), out, dx)), ctypes.c_long(64))
    assert set(out) == {1.0}
    assert set(dx) == {0.0}


def test_the_files_it_names_exist():
    names = re.findall(r"`((?:python|cpp|tests|docs|bench)/[\w./]+)`", PAGE.read_text(encoding="utf-8"))
    assert len(names) > 20
    for name in names:
        if "NAME" not in name:
            assert (ROOT / name).exists(), name
