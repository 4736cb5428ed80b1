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
    structs = re.findall(r"template <class T>\nstruct (\w+Kernels) \{\n(.*?)\n\};", header, re.DOTALL)
    return {name: re.findall(r"\(\*(\w+)\)\(", body) for name, body in structs}


def compiled(tmp_path, *tables):
    """The compiler's return code and messages for a unit that makes tables, each in a namespace."""
    unit = tmp_path / "unit.cpp"
    made = "\n".join(f"namespace cnnlib::n{number} {{\n{table}\n}}" for number, table in enumerate(tables))
    unit.write_text(f'#include "kernels/families.hpp"\n{made}\n')
    command = [COMPILER, "-std=c++17", "-fsyntax-only", "-DCNNLIB_ISA=any", f"-I{CPP}", str(unit)]
    run = subprocess.run(command, capture_output=True, text=True)
    return run.returncode, run.stderr


def filled(family, fields):
    return f"{family}<float> table() {{ return {{{', '.join(f'.{name} = nullptr' for name in fields)}}}; }}"


def test_what_is_left_out(tmp_path):
    names = list(families())
    units = [f"{name}<float>{{{', '.join(['nullptr'] * len(families()[name]))}}}" for name in names]
    table = "Kernels<float> table() {{ return {{{}}}; }}"
    whole = [filled(family, fields) for family, fields in families().items()]
    assert compiled(tmp_path, *whole, table.format(", ".join(units))) == (0, "")
    left_out = [(family, field) for family, fields in families().items() for field in {fields[0], fields[-1]}]
    lacking = [filled(family, [f for f in families()[family] if f != field]) for family, field in left_out]
    code, message = compiled(tmp_path, *lacking)
    assert code != 0
    for family, field in left_out:
        assert re.search(rf"missing .*{family}<float>::{field}|missing field '{field}'", message)
    code, message = compiled(tmp_path, table.format(", ".join(units[:-1])))
    assert code != 0
    assert "missing" in message
