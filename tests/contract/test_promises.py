"""docs/promises.md names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_promise_names_tests_that_exist():
    text = (ROOT / "docs" / "promises.md").read_text()
    before, figures = text.split("| what | figure |")  # and a table of numbers
    lines = before.splitlines() + figures.partition("\n\n")[2].splitlines()
    headings = ("| promise |", "| bug |", "| --- |")
    rows = [line for line in lines if line.startswith("| ") and not line.startswith(headings)]
    assert len(rows) > 20
    for row in rows:
        *_, tests = row.strip("| ").split(" | ")
        names = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", tests)
        assert names, f"no test holds: {row}"
        for file, function in names:
            assert (ROOT / file).is_file(), file
            assert f"def {function}(" in (ROOT / file).read_text() or not function, f"{file}::{function}"
