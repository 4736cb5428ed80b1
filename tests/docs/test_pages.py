"""The pages of docs/ do what they show: their code runs, and prints what stands below it."""

import functools
import re
import sys
from pathlib import Path

import cnnlib
import pytest
from cnnlib import layers

DOCS = Path(__file__).resolve().parents[2] / "docs"
if not DOCS.is_dir():
    pytest.skip("the tests lie elsewhere than in a checkout", allow_module_level=True)
sys.path.insert(0, str(DOCS))
import measured  # noqa: E402
import reference  # noqa: E402
from run_page import Differs, compare, run_page  # noqa: E402

# The smallest number of outputs that each shows, so that a page whose blocks are not found fails.
PAGES = {
    "index": 1,
    "tutorial": 8,
    "how-to/gradient-checks": 2,
    "how-to/faster-here": 1,
    "how-to/large-data": 2,
    "how-to/resuming": 2,
    "how-to/threads": 2,
    "how-to/inference": 3,
    "how-to/eight-bits": 2,
    "how-to/bfloat16": 2,
    "how-to/scikit-learn": 3,
    "how-to/serving": 1,
    "how-to/teaching": 1,
    "how-to/masks": 1,
    "how-to/numbers": 2,
    "how-to/images-from-images": 1,
    "how-to/signals": 1,
    "how-to/detection": 1,
    "add-a-kernel": 1,
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


KEYS_OF_ONNX_METADATA = ("cnnlib.preprocess", "cnnlib.classes", "cnnlib.head", "cnnlib.loss")


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
            elif link.startswith("api/"):
                assert Path(link).stem in ("index", "layers", *reference.FAMILIES, *reference.SUBJECTS), link
                continue
            else:
                target = page.parent / link
            assert target.exists(), f"{page.relative_to(root)}: {link}"
            count += 1
    assert count > 40


def test_every_public_name_has_a_place_in_the_reference(tmp_path):
    reference.write(tmp_path)
    pages = {path.stem: path.read_text(encoding="utf-8") for path in tmp_path.glob("*.rst")}
    entry = re.compile(r"^\.\. (?:autofunction|autoclass|py:data):: (\w+)$", re.MULTILINE)
    for family in reference.FAMILIES:
        shown = entry.findall(pages[family])
        assert shown
        assert shown == [name for pair in reference.layers_of(family).values() for name in pair]
    of_layers = [name for family in reference.FAMILIES for name in entry.findall(pages[family])]
    assert sorted(of_layers) == sorted(layers.__all__)
    for page, (_, modules) in reference.all_subjects().items():
        assert all(f".. automodule:: {name}" in pages[page] or "missing" in pages[page] for name in modules)
        assert page in pages["index"]


def test_forward_comes_before_backward():
    assert reference.layers_of("norms")["batchnorm"] == [
        "batchnorm_forward",
        "batchnorm_backward",
    ]


def test_measurements_are_those_of_the_results():
    """After new figures: python docs/measured.py."""
    runs = measured.Runs()
    text = measured.PAGE.read_text(encoding="utf-8")
    assert len(measured.MARKS.findall(text)) == 4
    assert measured.filled(text, runs) == text
    charts = runs.charts()
    assert len(charts) >= 4
    for name, drawing in charts.items():
        assert (DOCS / "images" / name).read_text(encoding="utf-8") == drawing
        assert f"](images/{name})" in text


def test_no_page_installs_by_a_name_that_no_index_has():
    """install.md says where the name comes from."""
    root = DOCS.parent
    for page in [*root.glob("*.md"), *DOCS.glob("*.md"), *DOCS.glob("how-to/*.md")]:
        if page.name not in ("install.md", "CHANGELOG.md"):
            text = page.read_text(encoding="utf-8")
            assert not re.search(r"pip install [^\n`]*\bcnnlib\b(?!-)", text), page
