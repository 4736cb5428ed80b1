"""The notebooks of examples/ do what they show: their cells run, and print what they printed before."""

import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
if not DOCS.is_dir():
    pytest.skip("the tests lie elsewhere than in a checkout", allow_module_level=True)
sys.path.insert(0, str(DOCS))
from notebooks import cells, notebooks, printed  # noqa: E402
from run_page import compare  # noqa: E402

NOTEBOOKS = notebooks()


def test_there_are_five():
    assert sorted(NOTEBOOKS) == ["course-walk", "digits", "gallery", "own-images", "what-the-net-sees"]


@pytest.mark.slow
@pytest.mark.parametrize("name", NOTEBOOKS)
def test_cells_print_what_they_show(name, tmp_path, monkeypatch, capsys, num_threads):
    plt = pytest.importorskip("matplotlib.pyplot", reason="it draws")
    if name == "own-images":
        pytest.importorskip("PIL.Image", reason="Pillow reads image files")
    plt.switch_backend("Agg")
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
    monkeypatch.chdir(tmp_path)
    num_threads(1)  # small networks; two threads on a busy machine would take longer than one
    namespace, compared = {"__name__": "__notebook__"}, 0
    for kind, text, outputs in cells(NOTEBOOKS[name]):
        assert not any(output["output_type"] == "error" for output in outputs)
        if kind == "code":
            exec(compile(text, name, "exec"), namespace)
            compare(printed(outputs), capsys.readouterr().out)
            compared += bool(printed(outputs))
    assert compared >= 3
