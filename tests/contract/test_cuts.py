"""Code that cuts sums cannot ask for the threads or the machine: the compiler refuses it."""

import shutil
import subprocess
from pathlib import Path

import pytest

CPP = Path(__file__).parents[2] / "cpp"
COMPILER = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
HEADERS = ["machine/processor.hpp", "machine/system.hpp", "machine/cgroup.hpp"]
HEADERS += [f"threads/{path.name}" for path in sorted((CPP / "threads").glob("*.hpp"))]

pytestmark = pytest.mark.skipif(
    COMPILER is None or not CPP.is_dir(), reason="needs a C++ compiler and the sources"
)


@pytest.mark.parametrize("header", HEADERS)
def test_headers_that_cuts_cannot_include(header, tmp_path):
    unit = tmp_path / "unit.cpp"
    unit.write_text(f'#define CNNLIB_CUTS_ALONE\n#include "{header}"\n')
    command = [COMPILER, "-std=c++17", "-fsyntax-only", f"-I{CPP}", str(unit)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode != 0
    assert "a cut decides bits" in run.stderr


def test_every_cut_is_compiled_so():
    """A header of cuts that kernels/cuts.cpp leaves out would be held to nothing."""
    unit = (CPP / "kernels" / "cuts.cpp").read_text()
    assert unit.startswith("//")
    assert unit.index("#define CNNLIB_CUTS_ALONE") < unit.index("#include")
    for header in (CPP / "kernels").rglob("*cuts.hpp"):
        assert f'#include "{header.relative_to(CPP).as_posix()}"' in unit
