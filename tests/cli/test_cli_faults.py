"""Names that are hard to show, and pictures that cannot be drawn or stored: a run keeps its results."""

import json
import subprocess
import sys
import unicodedata

import matplotlib.font_manager
import numpy as np
import pytest
from cnnlib import plots
from cnnlib._files.exclusive import LOCK_FILE
from cnnlib.checkpoint import load_checkpoint, save_checkpoint
from cnnlib.cli.main import main
from cnnlib.cli.output import json_text
from cnnlib.data import Normalization
from cnnlib.models import ConvNet
from cnnlib.runs.folder import PICTURES
from cnnlib.runs.log import RunLog
from image_folders import write_folder

pytest.importorskip("PIL.Image", reason="Pillow reads image files")
TINY = (
    "--image-size",
    "12",
    "--num-epochs",
    "1",
    "--threads",
    "1",
    "--model",
    "three-layer",
    "--num-filters",
    "2",
)
NAMES = [
    "$5_$",
    "a{b}^2",
    "50%\\frac",
    "Zürich",
    "猫",
    "tab\there",
    "red\x1b[31m",
    "up\x1b[A\nclass",
    "a\u202ebc",
]


@pytest.fixture(scope="module")
def without_pictures():
    """Pictures are what this looks at."""


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("pictures") / "a\x1b[1mfolder"
    write_folder(root, dict.fromkeys(NAMES, 12))
    (root / NAMES[0] / "0.png").rename(root / NAMES[0] / "\x1b]0;title\x07.png")
    (root / NAMES[1] / "0.png").rename(root / NAMES[1] / "no text \udcff.png")
    return root


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    root = tmp_path_factory.mktemp("small") / "photos"
    write_folder(root, {"ant": 20, "bee": 20})
    return root


def train(photos, out, capsys):
    assert main(["train", "--data", f"folder:{photos}", *TINY, "--out", str(out)]) == 0
    return capsys.readouterr().out.splitlines()


def assert_harmless(text):
    """Nothing steers a terminal, and nothing moves what is read."""
    steering = {character for character in text if unicodedata.category(character) in ("Cc", "Cf", "Cs")}
    assert steering <= {"\n"}


@pytest.mark.parametrize("part", ["last", "best"])
def test_statistics_that_are_text(part, small, tmp_path, capsys):
    """No command goes on with them, and each names the file."""
    out, spec = tmp_path / "run", ["--model", "resnet8", "--num-epochs", "1", "--image-size", "12"]
    assert main(["train", "--data", f"folder:{small}", *spec, "--threads", "1", "--out", str(out)]) == 0
    (path,) = out.glob("*_epoch_1.npz")
    params, content = load_checkpoint(path)
    state = content["run"] if part == "last" else content["run"]["best"]
    state["bn_params"]["0"]["running_mean"] = state["bn_params"]["0"]["running_mean"].astype(str)
    save_checkpoint(params, path, content)
    capsys.readouterr()
    photo = str(next(small.glob("*/*.png")))
    for command in (
        ["predict", str(out), photo],
        ["eval", str(out)],
        ["train", "--resume", str(out), "--num-epochs", "2"],
    ):
        assert main(command) != 0
        told = capsys.readouterr().err
        assert f"{path.name}: bn_params 0: running_mean must be real numbers, got dtype <U" in told


class TestNames:
    def test_through_all_commands(self, photos, tmp_path, capsys):
        out = train(photos, tmp_path / "run", capsys)
        assert_harmless("\n".join(out))
        assert not [line for line in out if line.startswith("left out")]
        assert f"pictures: {', '.join(PICTURES)}" in out
        assert out[-1].startswith("test_accuracy: ")
        assert_harmless((tmp_path / "run" / "report.html").read_text(encoding="utf-8"))

        assert main(["eval", str(tmp_path / "run")]) == 0
        out = capsys.readouterr().out
        assert_harmless(out)
        assert len(out.splitlines()) == len(NAMES) + 1
        assert "up\\x1b[A\\nclass" in out

        assert main(["predict", str(tmp_path / "run"), str(photos), "--top", "9"]) == 0
        out = capsys.readouterr().out
        assert_harmless(out)
        assert len(out.splitlines()) == 12 * len(NAMES)
        assert "\\x1b]0;title\\x07.png: " in out
        assert "no text \\udcff.png: " in out
        assert main(["predict", str(tmp_path / "run"), str(photos / "nothing\x1b[2J.png")]) == 2
        err = capsys.readouterr().err
        assert_harmless(err)
        assert "nothing\\x1b[2J.png" in err

    def test_json_reads_back_the_same(self, photos, tmp_path, capsys):
        model = ConvNet(["relu"], (3, 12, 12), len(NAMES), seed=0)
        model.save(tmp_path / "m.npz", preprocess=Normalization(0, 255), classes=NAMES)
        assert main(["predict", str(tmp_path / "m.npz"), str(photos), "--json", "--top", "9"]) == 0
        out = capsys.readouterr().out
        assert_harmless(out)
        rows = json.loads(out)
        assert {p["class"] for row in rows for p in row["predictions"]} == set(NAMES)
        assert f"{photos}/{NAMES[0]}/\x1b]0;title\x07.png" in [row["file"] for row in rows]

    @pytest.mark.parametrize("text", ["\x9b31m\u2028\u202e", "\udc80", "\U000e0001", '猫😀\\n"', "a\nb"])
    def test_json_text(self, text):
        shown = json_text([text])
        assert_harmless(shown)
        assert json.loads(shown) == [text]

    def test_columns_of_wide_names(self, tmp_path, capsys):
        """Where a name takes two columns a character, the column behind it begins at the same place."""
        names = ["dog", "猫", "鳥の写真"]
        ConvNet(["relu"], (3, 12, 12), 3, seed=0).save(
            tmp_path / "m.npz",
            preprocess=Normalization(0, 255),
            classes=names,
        )
        write_folder(tmp_path / "photos", dict.fromkeys(names, 3))
        assert main(["eval", str(tmp_path / "m.npz"), "--data", f"folder:{tmp_path / 'photos'}"]) == 0
        rows = capsys.readouterr().out.splitlines()[:-1]
        assert [row.partition("  ")[0] for row in rows] == ["dog", "猫", "鳥の写真"]
        ends = [sum(2 if unicodedata.east_asian_width(c) == "W" else 1 for c in row) for row in rows]
        assert len(set(ends)) == 1

    def test_output_that_lacks_characters(self, tmp_path):
        ConvNet(["relu"], (3, 12, 12), 2, seed=0).save(
            tmp_path / "m.npz",
            preprocess=Normalization(0, 255),
            classes=["ü", "猫"],
        )
        write_folder(tmp_path / "photos", {"ü": 2})
        command = [
            sys.executable,
            "-m",
            "cnnlib",
            "predict",
            str(tmp_path / "m.npz"),
            str(tmp_path / "photos"),
        ]
        environment = {"PYTHONIOENCODING": "ascii", "PYTHONPATH": ":".join(sys.path)}
        done = subprocess.run([*command, "--top", "2"], capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("\\u732b") == 2


def test_a_log_that_cannot_be_ended_costs_nothing_else(small, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(RunLog, "close", lambda self: open(tmp_path / "none" / "log", "rb"))
    out = train(small, tmp_path / "run", capsys)
    assert len([line for line in out if line.startswith("left out: the end of the log")]) == 1
    assert out[-1].startswith("test_accuracy: ")


class TestPictures:
    def test_one_that_fails_costs_itself_alone(self, small, tmp_path, capsys, monkeypatch):
        def fails(*args, **options):
            raise ValueError("no such\x1b[1m thing")

        monkeypatch.setattr(plots, "plot_confusion_matrix", fails)
        out = train(small, tmp_path / "run", capsys)
        left_out = [line for line in out if line.startswith("left out")]
        assert left_out == ["left out: confusion.png (ValueError: no such\\x1b[1m thing)"]
        for name in PICTURES:
            assert (tmp_path / "run" / name).exists() == (name != "confusion.png")
        html = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
        assert html.count("data:image/svg+xml") == 2  # not the matrix
        assert "left out (ValueError: no such\\x1b[1m thing)" in html
        assert out[-1].startswith("test_accuracy: ")

    def test_one_that_fails_when_it_is_rendered(self, small, tmp_path, capsys, monkeypatch):
        draw = plots.plot_filters
        monkeypatch.setattr(plots, "plot_filters", lambda *a, ax, **o: draw(*a, ax=ax, **o).set_title("$_$"))
        out = train(small, tmp_path / "run", capsys)
        (left_out,) = [line for line in out if line.startswith("left out")]
        assert left_out.startswith("left out: filters.png (ValueError: ")
        assert out[-1].startswith("test_accuracy: ")

    def test_without_any_font(self, small, tmp_path, capsys, monkeypatch):
        def fails(*args, **options):
            raise ValueError("Failed to find font")

        monkeypatch.setattr(matplotlib.font_manager, "findfont", fails)
        monkeypatch.setattr("matplotlib.backends.backend_agg.RendererAgg._prepare_font", fails)
        out = train(small, tmp_path / "run", capsys)
        assert len([line for line in out if line.startswith("left out")]) >= len(PICTURES) - 1
        assert f"report: {tmp_path / 'run' / 'report.html'}" in out
        assert out[-1].startswith("test_accuracy: ")

    def test_a_part_of_the_report(self, small, tmp_path, capsys, monkeypatch):
        def fails(*args, **options):
            raise MemoryError

        monkeypatch.setattr("cnnlib.solver.Solver.profile_step", fails)
        out = train(small, tmp_path / "run", capsys)
        (left_out,) = [line for line in out if line.startswith("left out")]
        assert left_out == "left out: the time by layer in the report (MemoryError)"
        html = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
        assert "<summary>Network</summary>" in html
        assert "<summary>Time by layer</summary>" not in html

    def test_a_full_disk(self, small, tmp_path):
        """Files may have 80 kB: enough for checkpoint and pictures, not for the report."""
        resource = pytest.importorskip("resource", reason="no limits of this kind here")
        command = [sys.executable, "-m", "cnnlib", "train", "--data", f"folder:{small}", *TINY]
        command += ["--hidden-dim", "2", "--out", str(tmp_path / "run")]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (80000, 80000)),
        )
        assert done.returncode == 0, done.stderr
        out = done.stdout.splitlines()
        left_out = [line.partition(" (")[0] for line in out if line.startswith("left out")]
        assert left_out[-1] == "left out: report.html"
        assert out[-1].startswith("test_accuracy: ")
        assert {path.name for path in (tmp_path / "run").iterdir()} & {
            "checkpoint_epoch_1.npz",
            "history.csv",
        }
        assert [path.name for path in (tmp_path / "run").glob(".*")] == [LOCK_FILE]  # nothing unfinished

    def test_names_are_drawn_literally(self):
        names = NAMES[:4]
        figure = matplotlib.figure.Figure()
        ax = plots.plot_confusion_matrix(np.arange(4), np.arange(4), names, ax=figure.subplots())
        figure.canvas.draw()
        assert [label.get_text() for label in ax.get_xticklabels()] == names
        assert not any(label.get_parse_math() for label in (*ax.get_xticklabels(), *ax.get_yticklabels()))
        mistakes = plots.plot_mistakes(np.zeros((1, 1, 2, 2)), [0], [[0.0, 9.0]], names[:2])
        mistakes.canvas.draw()
        assert mistakes.axes[0].get_title() == "seen: a{b}^2, 100 %\ntrue: $5_$"

    def test_fonts_are_looked_for_and_what_none_has_is_escaped(self, monkeypatch):
        from cnnlib.plots import _drawing

        fonts = _drawing._fonts(tuple(matplotlib.rcParams["font.family"]))
        monkeypatch.setattr(_drawing, "_fonts", lambda default: fonts[:1])  # DejaVu Sans alone
        assert _drawing.lettering(["Zürich", "a猫b"])[0] == ["Zürich", "a\\u732bb"]
        assert "fontfamily" not in _drawing.lettering(["Zürich", "a猫b"])[1]
        drawn = _drawing._drawn
        monkeypatch.setattr(_drawing, "_fonts", lambda default: [*fonts[:1], ("Made up", "font.ttf")])
        monkeypatch.setattr(
            _drawing, "_drawn", lambda path, text: text & {"猫"} if path == "font.ttf" else drawn(path, text)
        )
        names, properties = _drawing.lettering(["a猫b", "犬"])
        assert names == ["a猫b", "\\u72ac"]
        assert properties["fontfamily"] == [*matplotlib.rcParams["font.family"], "Made up"]
