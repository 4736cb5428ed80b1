"""docs/promises.md names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_promise_names_tests_that_exist():
    text = (ROOT / "docs" / "promises.md").read_text()
    rows = [
        line
        for line in text.splitlines()
        if line.startswith("| ") and not line.startswith(("| promise", "| ---"))
    ]
    assert len(rows) > 20
    for row in rows:
        *_, tests = row.strip("| ").split(" | ")
        names = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", tests)
        assert names, f"no test holds: {row}"
        for file, function in names:
            assert (ROOT / file).is_file(), file
            assert f"def {function}(" in (ROOT / file).read_text() or not function, f"{file}::{function}"
