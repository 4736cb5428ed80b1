"""README does what it shows: its commands, its code, and the figures of the tables in bench/."""

import re
import shlex
import sys
from pathlib import Path

import pytest
from cnnlib.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
if not README.exists():
    pytest.skip("the tests lie elsewhere than in a checkout", allow_module_level=True)
sys.path.insert(0, str(ROOT / "docs"))
from run_page import compare, run_page  # noqa: E402

TEXT = README.read_text(encoding="utf-8")


def shown(command):
    """The lines that README shows below the command that begins so."""
    for block in re.findall(r"```console\n(.*?)```", TEXT, re.DOTALL):
        if block.startswith(f"$ {command}"):
            first, *lines = block.splitlines()
            return first[2:], [line for line in lines if line != "..."]
    raise AssertionError(f"README shows no {command!r}")


def test_code_prints_what_it_shows(tmp_path, num_threads):
    num_threads(1)
    assert run_page(README, tmp_path) == 4


def test_commands_print_what_it_shows(tmp_path, monkeypatch, capsys, num_threads):
    pytest.importorskip("PIL.Image", reason="Pillow reads image files")
    num_threads(1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    assert main(["train"]) == 0  # as `make train` does
    printed = capsys.readouterr().out.splitlines()
    _, lines = shown("make train")
    for line in lines:
        if not line.startswith("best val_accuracy"):  # which says how long it took
            compare(line, next(p for p in printed if p.split(":")[0] == line.split(":")[0]))
    command, lines = shown(".venv/bin/cnnlib predict")
    assert main(shlex.split(command)[1:]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.split()[:2] == lines[0].split()[:2]  # the surest class; the others are far behind


@pytest.mark.parametrize(
    ("processor", "page"), [("AMD Zen 5", "zen5"), ("Intel Xeon with AMX", "xeonwithamx")]
)
def test_convolutions_are_those_of_the_results(processor, page):
    """The row "all" of the first table of a page, on two threads, forward and backward."""
    results = (ROOT / "bench" / f"RESULTS-{page}.md").read_text(encoding="utf-8")
    table = results[results.index("| group |") :]
    titles = [title.strip() for title in table.splitlines()[0].strip("|").split("|")]
    row = next(line for line in table.splitlines() if line.startswith("| all "))
    means = dict(zip(titles, (cell.split("/")[0].strip() for cell in row.strip("|").split("|"))))
    line = next(line for line in TEXT.splitlines() if processor in line and "compare.py --batches 8" in line)
    for dtype, cell in zip(("float32", "float64"), line.split("|")[3:5]):
        for way, figure in zip(("forward", "backward"), cell.split(",")):
            assert float(figure) == pytest.approx(float(means[f"{dtype} {way}, 2 t"]), rel=0.02), (dtype, way)
