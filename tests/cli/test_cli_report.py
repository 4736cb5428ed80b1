"""report.html, all about a run on one page."""

import base64
import copy
import io
import json
import re
import shutil
import sys
import warnings
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from cnnlib.__main__ import main
from cnnlib.cli.report import certainty, html_page, html_report
from cnnlib.cli.report.html_page import Gallery
from cnnlib.data import load_digits
from cnnlib.inference import prepare
from cnnlib.models import ConvNet
from cnnlib.runs.folder import PICTURES
from cnnlib.solver import Solver

NETWORK = ("--model", "resnet8", "--augment", "crop:pad=1", "--schedule", "cosine")
VOID = ("br", "img", "meta")


class Page(HTMLParser):
    """What a page holds; the tags must fit together."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.attributes, self.tables, self.texts = [], [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attributes]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += text
        elif self.open and self.open[-1] != "style":
            self.texts.append(text.strip())

    def table(self, *header):
        """The rows of the table whose header begins so."""
        (rows,) = [rows for rows in self.tables if tuple(rows[0][: len(header)]) == header]
        return rows[1:]

    def tables_of(self, *header):
        """The rows of each table whose header begins so."""
        return [rows[1:] for rows in self.tables if tuple(rows[0][: len(header)]) == header]

    def pictures(self):
        for tag, name, value in self.attributes:
            if (tag, name) == ("img", "src"):
                kind, _, data = value.partition(";base64,")
                yield kind, base64.b64decode(data, validate=True)


@pytest.fixture(scope="module")
def without_pictures():
    """Pictures are what this looks at."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run's folder, and what was printed."""
    pytest.importorskip("matplotlib", reason="it draws the pictures")
    folder = tmp_path_factory.mktemp("report") / "run <2> & co"
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", printed)
        assert main(["train", *NETWORK, "--num-epochs", "2", "--threads", "1", "--out", str(folder)]) == 0
    return folder, printed.getvalue()


@pytest.fixture(scope="module")
def report(trained):
    return Page((trained[0] / "report.html").read_text(encoding="utf-8"))


class TestPage:
    def test_it_needs_nothing_beside_it(self, trained, report):
        assert f"report: {trained[0] / 'report.html'}" in trained[1].splitlines()
        assert not {"script", "link", "iframe", "object", "base"} & set(report.tags)
        for _, name, value in report.attributes:
            assert name not in ("href", "srcset", "poster", "background", "action")
            assert name != "src" or value.startswith("data:")
        html = (trained[0] / "report.html").read_text(encoding="utf-8")
        assert not re.search(r"https?:|//|url\(|@import", re.sub(r'src="data:[^"]*"', "", html))

    def test_pictures_are_whole(self, report):
        pictures = list(report.pictures())
        assert [kind for kind, _ in pictures] == [
            "data:image/svg+xml",
            "data:image/svg+xml",
            "data:image/svg+xml",
            *["data:image/png"] * (len(pictures) - 3),
        ]
        for kind, data in pictures:
            if "png" in kind:
                assert data.startswith(b"\x89PNG")
                continue
            for element in ET.fromstring(data).iter():
                for name, value in element.attrib.items():
                    assert not name.endswith("href") or value.startswith(("#", "data:")), value
        descriptions = [value for tag, name, value in report.attributes if (tag, name) == ("img", "alt")]
        assert len(descriptions) == len(pictures)
        assert all(descriptions)
        assert len(set(descriptions[:3])) == 3

    def test_bars(self, report):
        """As long as the share, or in the table of times as its part of the largest one."""
        widths = [value for tag, name, value in report.attributes if (tag, name) == ("i", "style")]
        classes = report.table("class", "right", "of", "share")
        assert len(widths) == len(classes) + len(report.table("layer, shape of its input", "share"))
        shares = [float(row[3].removesuffix(" %")) for row in classes]
        assert [round(float(width[7:-1])) for width in widths[: len(shares)]] == pytest.approx(shares, abs=1)
        assert max(float(width[7:-1]) for width in widths[len(shares) :]) == 100

    @pytest.mark.parametrize(("cells", "wide"), [(5, False), (60, True)])
    def test_tables_that_a_phone_has_to_scroll_say_so(self, cells, wide):
        columns = [("a long title of words", "text"), ("number", "number")]
        table = html_page.table(columns, [["word " * cells, "1" * cells]])
        assert ('class="wide many"' in table) == wide
        assert ('class="wide many"' in html_page.preformatted("short\n" + "-" * cells)) == wide
        assert 'content: "goes on to the right"' in html_page.page("", [])

    def test_text_is_escaped(self, trained, report):
        assert "run <2> & co: resnet8 on digits" in report.texts
        page = Page(
            html_page.page(
                "<b>",
                [
                    html_page.section("&amp;", html_page.paragraph("<script>"), html_page.preformatted("<i")),
                    html_page.key_figures([("<u>", "1 < 2")]),
                    html_page.folded("<s>", html_page.table([("<p>", "text")], [["</td>"]])),
                ],
            )
        )
        assert [text for text in page.texts if text] == [
            "<b>",
            "<b>",
            "&amp;",
            "<script>",
            "<i",
            "<u>",
            "1 < 2",
            "<s>",
        ]
        assert page.tables == [[["<p>"], ["</td>"]]]


class TestContent:
    def test_result(self, trained, report):
        accuracy = float(re.search(r"^test_accuracy: (.*)$", trained[1], re.MULTILINE)[1])
        shown = dict(zip(report.texts, report.texts[1:]))
        assert float(shown["test_accuracy"].removesuffix(" %")) == pytest.approx(100 * accuracy, abs=0.06)
        right, images = map(int, shown["right"].split(" of "))
        assert (round(right / images, 4), images) == (accuracy, 355)
        assert shown["epochs"] == "2 of 2"
        assert shown["parameters"] == "77,754"
        best = re.search(r"^best val_accuracy: (\S+) (\(epoch \d\))", trained[1], re.MULTILINE)
        assert shown["best val_accuracy"] == f"{100 * float(best[1]):.1f} % {best[2]}"
        low, high = (float(bound.removesuffix(" %")) for bound in shown["19 times of 20"].split(" to "))
        assert 0 < low < 100 * accuracy < high < 100
        (told,) = [text for text in report.texts if text.startswith("Of 355 images ")]
        assert shown["test_accuracy"] in told
        assert any(re.match(r"Who always says '\d' is right in 1\d\.\d %\.", text) for text in report.texts)

    def test_what_matters_less_is_folded(self, trained):
        html = (trained[0] / "report.html").read_text(encoding="utf-8")
        for title in ("In eight bits", "Time by layer", "Network", "Settings", "Environment"):
            assert f"<section><details><summary>{title}</summary>" in html
            assert f"<h2>{title}</h2>" not in html

    def test_the_network_in_eight_bits(self, report):
        shown = dict(zip(report.texts, report.texts[1:]))
        names = ("test_accuracy", "test_accuracy in eight bits", "beside float32")
        right, right_too, points = (float(shown[name].split()[0]) for name in names)
        assert right_too - right == pytest.approx(points, abs=0.11)
        assert any(text.startswith("layer") and "SNR (dB)" in text for text in report.texts)

    def test_classes(self, report):
        rows = report.table("class", "right", "of", "share")
        assert [row[0] for row in rows] == list("0123456789")
        right, of = (sum(int(row[k]) for row in rows) for k in (1, 2))
        assert f"{right} of {of}" in report.texts
        for row in rows:
            assert row[3] == f"{100 * int(row[1]) / int(row[2]):.0f} %"

    def test_epochs(self, trained, report):
        lines = (trained[0] / "history.csv").read_text().splitlines()
        header, *rows = [line.split(",") for line in lines]
        assert report.table(*header) == rows

    def test_settings_and_environment(self, trained, report):
        config = json.loads((trained[0] / "config.json").read_text())
        own, others = report.tables_of("setting", "value")
        settings = {row[0]: row[1] for row in (*own, *others)}
        assert {row[0]: row[2] for row in own}["training num epochs"] == "12"
        assert "training batch size" in {row[0] for row in others}
        for name in config["training"]:
            assert f"training {name.replace('_', ' ')}" in settings
        assert settings["training augment"] == "crop:pad=1"
        assert settings["training schedule"] == "cosine"
        assert settings["training weight decay"] == "none"
        assert settings["model input dim"] == "1,8,8"
        assert settings["preprocessing mean"] == f"{config['preprocessing']['mean'][0]:.6g}"
        environment = dict(report.table("what", "value"))
        assert environment["numpy"] == np.__version__
        assert environment["threads"] == "1"
        assert environment["platform"] == config["versions"]["platform"]

    def test_time_by_layer(self, report):
        rows = report.table("layer, shape of its input", "share")
        names = [row[0] for row in rows]
        assert names[0] == "conv 16 3x3 + batchnorm + relu 100x1x8x8"
        assert names[-4:] == ["affine 10 100x64", "loss", "update", "rest"]
        assert sum(float(row[1].removesuffix(" %")) for row in rows) == pytest.approx(100, abs=1)
        assert all(float(row[3]) > 0 for row in rows[:-1])

    def test_measuring_leaves_the_run_as_it_is(self):
        model = ConvNet([{"conv": 4}, "batchnorm", "relu", {"dropout": 0.3}], (1, 8, 8), 10, seed=0)
        settings = {"update_rule": "adam", "num_epochs": 1, "schedule": "cosine", "verbose": False, "seed": 0}
        solver = Solver(model, load_digits(), **settings)
        solver.train()
        before = copy.deepcopy(solver.state())
        assert "Time by layer" in html_report._time_by_layer(solver)
        np.testing.assert_equal(solver.state(), before)
        untrained = Solver(model, load_digits(), **{**settings, "num_epochs": 0})
        untrained.train()
        assert "Time by layer" in html_report._time_by_layer(untrained)


class TestCertainty:
    @pytest.mark.parametrize(
        ("right", "count", "low", "high"),
        [(0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (11, 12, 0.6461, 0.9851), (900, 1000, 0.8799, 0.9171)],
    )
    def test_wilsons_interval(self, right, count, low, high):
        assert certainty.interval(right, count) == pytest.approx((low, high), abs=2e-4)

    @pytest.mark.parametrize(
        ("before", "after", "count", "text"),
        [
            (0.8, 0.8, 12, "12 images do not tell whether the last doubling helped: +0 points"),
            (0.8, 0.85, 100, "100 images do not tell whether the last doubling helped: +5 points"),
            (0.8, 0.9, 1000, "The last doubling brought +10.0 points"),
            (0.9, 0.8, 1000, "The last doubling brought -10.0 points"),
        ],
    )
    def test_a_doubling_within_chance_advises_nothing(self, before, after, count, text):
        assert certainty.about_doubling(before, after, count).startswith(text)

    def remarks(self, right, count=100, trained=0.0, classes=("cat", "dog")):
        y = np.arange(count) % 2
        return " ".join(certainty.first_remarks(np.arange(count) < right, y, classes, trained))

    def test_chance(self):
        assert "Who always says 'cat' is right in 50.0 %. That is not clearly less" in self.remarks(55)
        assert "That is not clearly less" not in self.remarks(80)

    def test_overfitting(self):
        assert "It recognises 100.0 % of the training images: it has learned" in self.remarks(80, trained=1.0)
        assert "by heart" not in self.remarks(80, trained=0.85)
        assert "by heart" not in self.remarks(9, count=12, trained=0.9)  # which 12 images do not tell

    def test_doubts_of_eight_bits_stand_in_the_page(self, monkeypatch):
        """They are no warning that whoever trains a network sees unasked."""
        data = load_digits()

        def doubting(model, **options):
            warnings.warn("calibration says little of the ranges", UserWarning, stacklevel=2)
            return prepare(model, **options)

        monkeypatch.setattr(html_report, "prepare", doubting)
        model = ConvNet([{"conv": 4}, "relu"], (1, 8, 8), 10, seed=0)
        solver = Solver(model, data, num_epochs=0, verbose=False, seed=0)
        solver.train()
        run = SimpleNamespace(tta=None)
        right = np.ones(len(data["y_val"]), bool)
        html = html_report._eight_bits(run, solver, data, "val", right)
        assert "calibration says little of the ranges" in html


class TestGallery:
    def gallery(self, **more):
        scores = np.array([[9.0, 0], [0, 9.0], [2.0, 1.9], [3.0, 0], [0, 1.0]])
        X = np.random.default_rng(0).random((5, 1, 4, 4))
        return Gallery(X, np.array([0, 0, 0, 1, 1]), scores, ("<cat>", "dog"), **more)

    def test_which_images(self):
        gallery = self.gallery()
        assert gallery.mistakes(9).tolist() == [1, 3]
        assert gallery.mistakes(1).tolist() == [1]
        assert gallery.near_misses(9).tolist() == [2, 4, 0]
        assert gallery.typical(0, 9).tolist() == [0, 2]
        assert gallery.typical(1, 9).tolist() == [4]

    def test_captions(self):
        page = Page(html_page.page("", [self.gallery().html([1, 2])]))
        captions = [text for text in page.texts if text]
        assert captions == ["dog: 100 %", "<cat>: 0 %", "true: <cat>", "<cat>: 52 %", "dog: 48 %"]
        assert [kind for kind, _ in page.pictures()] == ["data:image/png"] * 2

    def test_photographs_are_those_of_the_files(self, tmp_path):
        from PIL import Image

        files = tuple(tmp_path / f"photo {n}.png" for n in range(5))
        for path in files:
            Image.new("RGB", (400, 100), "red").save(path)
        page = Page(html_page.page("", [self.gallery(files=files).html([3])]))
        assert "photo 3.png" in page.texts
        ((kind, data),) = page.pictures()
        assert kind == "data:image/jpeg"
        assert Image.open(io.BytesIO(data)).size == (180, 45)


class TestCommand:
    def test_report_afterwards(self, trained, tmp_path, capsys):
        run = shutil.copytree(trained[0], tmp_path / "copy")
        before = (run / "report.html").read_text(encoding="utf-8")
        for name in ("report.html", "curves.png", "confusion.png"):
            (run / name).unlink()
        assert main(["report", str(run), "--threads", "1"]) == 0
        out = capsys.readouterr().out.splitlines()
        assert out[-1] == trained[1].splitlines()[-1]  # the same accuracy
        assert all((run / name).exists() for name in PICTURES)
        pages = [Page(text) for text in (before, (run / "report.html").read_text(encoding="utf-8"))]
        for header in (("class", "right"), ("epoch", "iteration")):
            assert pages[0].table(*header) == pages[1].table(*header)
        assert main(["report", str(tmp_path / "nothing")]) == 2

    def test_without_matplotlib_it_has_no_pictures_and_says_so(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        arguments = [
            "train",
            "--num-epochs",
            "1",
            "--num-filters",
            "4",
            "--hidden-dim",
            "16",
            "--threads",
            "1",
        ]
        assert main([*arguments, "--out", str(tmp_path)]) == 0
        assert "they need matplotlib" in capsys.readouterr().out
        page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
        assert not [kind for kind, _ in page.pictures() if "svg" in kind]
        assert "First layer" not in page.texts
        assert any("pip install cnnlib[plots]" in text for text in page.texts)
        assert len(page.table("class", "right")) == 10
        assert main([*arguments, "--out", str(tmp_path), "--overwrite", "--learning-rate", "2e-3"]) == 0
        page = Page((tmp_path / "report.html").read_text(encoding="utf-8"))
        (rate,) = [row for row in page.tables_of("setting", "value")[0] if row[0] == "training learning rate"]
        assert rate == ["training learning rate", "0.002", "0.001"]
