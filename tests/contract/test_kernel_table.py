"""A field of the table of kernels that no unit fills is an error of the compiler, which names it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

CPP = Path(__file__).parents[2] / "cpp"
COMPILER = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")

pytestmark = pytest.mark.skipif(
    COMPILER is None or not CPP.is_dir(), reason="needs a C++ compiler and the sources"
)


def families():
    """The families' structs of functions and the names of their fields, in their order."""
    header = (CPP / "kernels.hpp").read_text()
    structs = re.findall(r"struct (\w+Kernels) \{\n(.*?)\n\};", header, re.DOTALL)
    return {name: re.findall(r"\(\*(\w+)\)\(", body) for name, body in structs}


def compiled(tmp_path, table):
    """The compiler's return code and messages for a unit that makes `table`."""
    unit = tmp_path / "unit.cpp"
    unit.write_text(f'#include "kernels/families.hpp"\nnamespace cnnlib {{\n{table}\n}}\n')
    command = [COMPILER, "-std=c++17", "-fsyntax-only", "-DCNNLIB_ISA=any", f"-I{CPP}", str(unit)]
    run = subprocess.run(command, capture_output=True, text=True)
    return run.returncode, run.stderr


def filled(family, fields):
    return f"{family}<float> table() {{ return {{{', '.join(f'.{name} = nullptr' for name in fields)}}}; }}"


@pytest.mark.parametrize("family", families() if CPP.is_dir() else [])
def test_a_field_that_is_left_out(family, tmp_path):
    fields = families()[family]
    assert compiled(tmp_path, filled(family, fields))[0] == 0
    for left_out in {fields[0], fields[-1]}:
        code, message = compiled(tmp_path, filled(family, [name for name in fields if name != left_out]))
        assert code != 0
        assert re.search(rf"missing .*{family}<float>::{left_out}|missing field '{left_out}'", message)


def test_a_family_that_is_left_out(tmp_path):
    names = list(families())
    units = [f"{name}<float>{{{', '.join(['nullptr'] * len(families()[name]))}}}" for name in names]
    table = "Kernels<float> table() {{ return {{{}}}; }}"
    assert compiled(tmp_path, table.format(", ".join(units)))[0] == 0
    code, message = compiled(tmp_path, table.format(", ".join(units[:-1])))
    assert code != 0
    assert "missing" in message
