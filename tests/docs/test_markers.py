"""Markers choose tests: files without them are not imported, and those that are named exist."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

TESTS = Path(__file__).parents[1]
MARKED = "pytestmark = [pytest.mark.sets, pytest.mark.smoke]"


@pytest.fixture
def ignored(request, tmp_path):
    """Tell whether a file of this text is ignored under an expression: None where pytest is to decide."""
    plugin = request.config.pluginmanager.get_plugin(str(TESTS / "conftest.py"))

    def ask(expression, text):
        path = tmp_path / "test_file.py"
        path.write_text(text)
        config = SimpleNamespace(option=SimpleNamespace(markexpr=expression))
        return plugin.pytest_ignore_collect(path, config)

    return ask


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("sets", ""),
        ("sets and threads", MARKED),
        ("(threads or core) and not slow", MARKED),
        ("threads and not (slow or sets)", ""),
    ],
)
def test_a_file_that_cannot_have_such_a_test(expression, text, ignored):
    assert ignored(expression, text) is True


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("", ""),
        ("sets", MARKED),
        ("not slow", ""),
        ("not sets", MARKED),  # each of its tests has the marker, or none: the text does not say which
        ("threads or not smoke", ""),
        ("not (sets or slow)", ""),
        ("parametrize(name=3)", ""),
    ],
)
def test_a_file_that_may_have_such_a_test(expression, text, ignored):
    assert ignored(expression, text) is None


def test_makefile_and_workflows_name_markers_that_exist(request):
    known = {line.partition(":")[0] for line in request.config.getini("markers")}
    root, found = TESTS.parent, set()
    given = re.compile(r"""(?:_TESTS \?= -m |_TESTS="-m |pytest[^\n]* -m )('[\w ()]+'|[a-z]+)""")
    for name in ("Makefile", "pyproject.toml", ".github/workflows/ci.yml"):
        for expression in given.findall((root / name).read_text()):
            found |= set(re.findall(r"\w+", expression)) - {"and", "or", "not"}
    assert {"sets", "borders", "smoke", "threads", "windows", "core"} <= found <= known
