"""Image files are opened in the formats that cnnlib reads, and in no others, whatever they are called."""

import ast
import io
import subprocess
import warnings
from pathlib import Path

import cnnlib
import numpy as np
import pytest
from cnnlib.cli.predict import read_image
from cnnlib.data import load_image_folder, load_target_folder
from cnnlib.data.image_files import IMAGE_SUFFIXES, is_grey, open_image, pillow_image, upright_size

Image = pytest.importorskip("PIL.Image", reason="Pillow reads image files")
pytest.importorskip("filelock", reason="folders of images take it")

PACKAGE = Path(cnnlib.__file__).parent
READ = {"PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP"}
# An EPS file that Pillow would hand to Ghostscript.
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n0 0 9 9 rectfill\nshowpage\n%%EOF\n"


def in_every_format():
    """Return bytes by the name of each format that Pillow writes, and of EPS."""
    Image.init()
    picture = Image.fromarray(np.full((24, 24, 3), 90, np.uint8))
    made = {"EPS": EPS}
    for name in sorted(set(Image.SAVE) - {"EPS"}):
        for mode in ("RGB", "L", "P", "1", "RGBA"):  # formats differ in those that they take
            file = io.BytesIO()
            with warnings.catch_warnings():  # of formats that Pillow is to lose
                warnings.simplefilter("ignore", DeprecationWarning)
                try:
                    picture.convert(mode).save(file, name)
                except (OSError, ValueError, KeyError, SystemError):
                    continue
            made[name] = file.getvalue()
            break
    return made


FILES = in_every_format()


@pytest.fixture
def no_process(monkeypatch):
    """Fail where a process is started."""

    def refuse(*arguments, **named):
        pytest.fail(f"a process was started: {arguments}")

    for module, name in ((subprocess, "Popen"), (subprocess, "check_call"), (subprocess, "run")):
        monkeypatch.setattr(module, name, refuse)
    monkeypatch.setattr("os.system", refuse)
    monkeypatch.setattr("os.posix_spawn", refuse, raising=False)


def test_one_place_opens_images():
    """Nothing else of the package calls Image.open, by whatever name."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr == "open":
                if isinstance(node.value, ast.Name) and "image" in node.value.id.lower():
                    found.append(path.relative_to(PACKAGE).as_posix())
            if isinstance(node, ast.ImportFrom) and node.module == "PIL.Image":
                found.append(path.relative_to(PACKAGE).as_posix())
    assert found == ["data/image_files.py"]


def test_formats_and_suffixes_agree():
    registered = {Image.registered_extensions()[suffix] for suffix in IMAGE_SUFFIXES}
    assert registered == READ
    assert READ <= set(FILES)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.filterwarnings("ignore::UserWarning")  # of Pillow, about what it reads
def test_every_format_under_a_wrong_suffix(name, tmp_path, no_process):
    file = tmp_path / "photo.png"
    file.write_bytes(FILES[name])
    known = name in READ or FILES[name].startswith((b"\xff\xd8", b"\x89PNG"))  # MPO and DIB are such files
    if known:
        assert open_image(file).size == (24, 24)
        assert upright_size(file) == (24, 24)
        return
    with pytest.raises(ValueError, match=r"photo\.png cannot be read as an image: it is none of PNG"):
        open_image(file)
    assert upright_size(file) is None
    assert not is_grey(file)
    with pytest.raises(OSError, match="cannot identify"):
        pillow_image(file)


class TestProgramsCalledImages:
    """An EPS file with the suffix of an image reaches no program from any loader."""

    def folder(self, tmp_path, *parts):
        """Return a folder of images in which one file is EPS; the others are images."""
        for part in parts:
            (tmp_path / part).mkdir(parents=True)
            for k in range(9):
                Image.fromarray(np.full((16, 16), 20 * k, np.uint8)).save(tmp_path / part / f"{k}.png")
        (tmp_path / parts[-1] / "8.png").write_bytes(EPS)
        return tmp_path

    def test_in_a_folder_of_classes(self, tmp_path, no_process):
        root = self.folder(tmp_path, "a", "b")
        with pytest.raises(ValueError, match=r"8\.png cannot be read as an image"):
            load_image_folder(root, 8, verbose=False)

    def test_as_a_mask(self, tmp_path, no_process):
        root = self.folder(tmp_path, "images", "masks")
        with pytest.raises(ValueError, match=r"8\.png cannot be read as a mask"):
            load_target_folder(root, 8, "pixels", verbose=False)

    def test_for_predict(self, tmp_path, no_process):
        class Trained:
            shape, task = (3, 8, 8), "classes"

            class normalization:
                ink = False

        (tmp_path / "x.png").write_bytes(EPS)
        with pytest.raises(ValueError, match=r"x\.png cannot be read as an image"):
            read_image(tmp_path / "x.png", Trained)
