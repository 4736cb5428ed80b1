"""Imports within the package: no circle of modules, and few files at its top."""

import ast
import graphlib
from pathlib import Path

import cnnlib
import pytest

PACKAGE = Path(cnnlib.__file__).parent
MOST_AT_THE_TOP = 12


def module_name(path, root):
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def statements(body):
    """The statements that run when a module is imported, those for type checkers left out."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from statements(node.orelse)
            continue
        yield node
        for part in ("body", "orelse", "finalbody", "handlers"):
            inner = getattr(node, part, [])
            if isinstance(inner, list):
                yield from statements([item for item in inner if isinstance(item, ast.AST)])


def imported(path, known):
    """The modules of the package that a file imports when it is imported itself."""
    for node in statements(ast.parse(path.read_text(encoding="utf-8")).body):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module in known:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in known else node.module


def import_graph(root):
    """Each module with those that it imports; that a package's own `__init__` comes first is left out."""
    files = {module_name(path, root): path for path in root.rglob("*.py*") if path.suffix in (".py", ".pyi")}
    sources = {name: path for name, path in files.items() if path.suffix == ".py"}
    return {name: set(imported(path, files)) - {name} for name, path in sources.items()}


def circle(graph):
    """The names along one circle; None where there is none."""
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return None


def test_no_circle():
    graph = import_graph(PACKAGE)
    assert len(graph) > 150
    assert circle(graph) is None


@pytest.mark.parametrize(
    ("second", "found"),
    [
        ("from pack.first import a", True),
        ("import pack.first", True),
        ("from pack import first", True),
        ("if True:\n    from pack import first", True),
        ("class C:\n    from pack import first", True),
        ("def f():\n    from pack import first", False),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pack import first", False),
    ],
)
def test_a_circle_is_found(tmp_path, second, found):
    root = tmp_path / "pack"
    (root / "room").mkdir(parents=True)
    (root / "__init__.py").write_text("")
    (root / "room" / "__init__.py").write_text("from pack.room.second import f")
    (root / "first.py").write_text("import pack.room\na = 1")
    (root / "room" / "second.py").write_text(second)
    assert (circle(import_graph(root)) is not None) == found


def mentions(path, name):
    """The lines that import the package `name` or something in it, at any time, by a statement or as text."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):  # the package has no relative imports, so this could be it
            found = [name]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):  # for importlib
            found = [node.value]
        else:
            continue
        if any(f"{one}.".startswith(f"{name}.") for one in found):
            yield node.lineno


def test_the_library_does_not_import_the_command_line():
    paths = [path for path in PACKAGE.rglob("*.py") if PACKAGE / "cli" not in path.parents]
    assert len(paths) > 150
    found = {path.relative_to(PACKAGE).as_posix() for path in paths if any(mentions(path, "cnnlib.cli"))}
    assert found == {"__main__.py"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from cnnlib.cli import recipes", True),
        ("from cnnlib import cli", True),
        ("import cnnlib.cli.main as command", True),
        ("def f():\n    from cnnlib.cli.output import say", True),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import cnnlib.cli", True),
        ("import importlib\nimportlib.import_module('cnnlib.cli.main')", True),
        ("from .cli import main", True),
        ("from cnnlib import climate", False),
        ("import cnnlib.runs", False),
    ],
)
def test_an_import_of_the_command_line_is_found(tmp_path, text, found):
    (tmp_path / "module.py").write_text(text)
    assert any(mentions(tmp_path / "module.py", "cnnlib.cli")) == found


def test_few_files_at_the_top():
    names = sorted(path.name for path in PACKAGE.iterdir() if path.is_file())
    own = [name for name in names if not name.startswith("_core.")]  # compiled, and its types
    assert len(own) <= MOST_AT_THE_TOP, own
