"""The pages of docs/ do what they show: their code runs, and prints what stands below it."""

import functools
import re
import sys
from pathlib import Path

import cnnlib
import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"
if not DOCS.is_dir():
    pytest.skip("the tests lie elsewhere than in a checkout", allow_module_level=True)
sys.path.insert(0, str(DOCS))
from run_page import Differs, compare, run_page  # noqa: E402

# The smallest number of outputs that each shows, so that a page whose blocks are not found fails.
PAGES = {
    "index": 1,
    "tutorial": 8,
    "how-to/gradient-checks": 2,
    "how-to/resuming": 2,
    "how-to/threads": 2,
    "how-to/inference": 3,
    "how-to/scikit-learn": 3,
}


@pytest.mark.parametrize("page", PAGES)
def test_it_prints_what_it_shows(page, tmp_path, num_threads):
    num_threads(1)  # small networks; two threads on a busy machine would take longer than one
    if page == "tutorial":
        matplotlib = pytest.importorskip("matplotlib", reason="it draws")
        matplotlib.use("Agg")
    if page == "how-to/scikit-learn":
        pytest.importorskip("sklearn", reason="it is about scikit-learn")
    text = DOCS / f"{page}.md"
    assert run_page(text, tmp_path) >= PAGES[page]
    for picture in tmp_path.glob("*.png"):
        assert f"](images/{picture.name})" in text.read_text(encoding="utf-8")
        assert (DOCS / "images" / picture.name).is_file()


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("a 1.50", "a 1.0"),
        ("a 3", "a 4"),
        ("a 3", "b 3"),
        ("4e-10", "4e-5"),
        ("True", "False"),
        ("(3, 4)", "(3,)"),
    ],
)
def test_another_output_is_noticed(shown, printed):
    compare(shown, shown)
    with pytest.raises(Differs):
        compare(shown, printed)


KEYS_OF_ONNX_METADATA = ("cnnlib.preprocess", "cnnlib.classes")


def test_names_on_the_pages_are_attributes():
    """Every `cnnlib.something` in the documentation is there after `import cnnlib`."""
    found = set()
    for page in (*DOCS.rglob("*.md"), DOCS.parent / "README.md"):
        found.update(re.findall(r"(?<![\w/.-])cnnlib(?:\.[A-Za-z_]\w*)+", page.read_text(encoding="utf-8")))
    assert len(found) > 50
    missing = []
    for name in sorted(found.difference(KEYS_OF_ONNX_METADATA)):
        try:
            functools.reduce(getattr, name.split(".")[1:], cnnlib)
        except ImportError:  # an extra that is not installed
            continue
        except AttributeError:
            missing.append(name)
    assert not missing


def test_links_within_the_repository_lead_to_files():
    root = DOCS.parent
    pages = [*root.glob("*.md"), *root.glob("bench/*.md"), *DOCS.glob("*.md"), *DOCS.glob("how-to/*.md")]
    count = 0
    for page in pages:
        for link in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text(encoding="utf-8")):
            if link.startswith("examples/") and page.parent == DOCS:  # the build makes a page of the notebook
                target = root / link.replace(".md", ".ipynb")
            elif link.startswith("api/"):  # of a module
                target = root / "python" / link[len("api/") :].replace(".rst", "").replace(".", "/")
                target = root / "python" / "cnnlib" if target.name == "index" else target
            else:
                target = page.parent / link
            assert target.exists(), f"{page.relative_to(root)}: {link}"
            count += 1
    assert count > 40
