"""Folders of images: what is read, how it is split, the cache, and what is refused."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import tracemalloc

import numpy as np
import pytest
from cnnlib._files.locks import locked
from cnnlib.data import Normalization, image_cache, load_digits, load_image_folder
from cnnlib.data.image_files import find_images, open_image, photo
from cnnlib.models import ConvNet
from cnnlib.solver import Solver
from image_folders import write_folder
from training import LinearModel

Image = pytest.importorskip("PIL.Image", reason="Pillow reads image files")
pytest.importorskip("filelock", reason="caches of images are made under its locks")
PARTS = ("train", "val", "test")


@pytest.fixture
def root(tmp_path):
    return tmp_path / "photos"


@pytest.fixture
def written(root):
    """The pixels of two classes of ten images, which are in root."""
    return write_folder(root, {"a": 10, "b": 10})


def load(root, size=(12, 10), **options):
    return load_image_folder(root, size, verbose=False, **options)


def caches(root):
    """The caches beside root, without their lock."""
    folder = root.with_name(root.name + ".cnnlib-cache")
    return sorted(path.name for path in folder.glob("[!.]*"))


def by_content(data):
    """Label by the bytes of each image."""
    return {
        image.tobytes(): int(label)
        for part in PARTS
        for image, label in zip(data[f"X_{part}"], data[f"y_{part}"], strict=True)
    }


@pytest.fixture
def decoded(monkeypatch):
    """The names of the files that are decoded."""
    names, photo = [], image_cache.photo
    monkeypatch.setattr(
        image_cache, "photo", lambda path, *rest: names.append(path.name) or photo(path, *rest)
    )
    return names


def write_and_return(root):
    write_folder(root, {"a": 12, "b": 12})
    return root


class TestContent:
    def test_pixels_labels_and_classes(self, root):
        written = write_folder(root, {"dog": 20, "ant": 10, "cat 2": 30})
        data = load(root)
        assert data["classes"] == ("ant", "cat 2", "dog")
        names = [f"{name}_{part}" for part in PARTS for name in ("X", "y", "files")]
        assert list(data) == [*names, "classes", "unreadable"]
        for part, count in (("train", 48), ("val", 6), ("test", 6)):
            X, y = data[f"X_{part}"], data[f"y_{part}"]
            assert isinstance(X, np.memmap)
            assert (X.shape, X.dtype) == ((count, 3, 12, 10), np.uint8)
            assert (y.shape, y.dtype) == ((count,), np.int64)
            assert not X.flags.writeable
        labels = {"ant": 0, "cat 2": 1, "dog": 2}
        want = {p.transpose(2, 0, 1).tobytes(): labels[name.split("/")[0]] for name, p in written.items()}
        assert by_content(data) == want

    @pytest.mark.parametrize("suffix", ["png", "PNG", "jpg", "JPEG", "bmp", "gif", "webp", "tif"])
    def test_formats(self, root, suffix):
        for name, colour in (("dark", 30), ("light", 220)):
            (root / name).mkdir(parents=True)
            for n in range(10):
                Image.new("L", (9, 9), colour).convert("RGB").save(root / name / f"{n}.{suffix}")
        data = load(root, 9)
        for image, label in zip(data["X_train"], data["y_train"], strict=True):
            assert np.abs(image.astype(int) - (30, 220)[label]).max() <= 2

    def test_other_files_are_passed_over(self, root, written):
        (root / "notes.txt").write_text("text")
        (root / "a" / "Thumbs.db").write_text("text")
        (root / "a" / "._0.png").write_text("text")
        (root / ".git").mkdir()
        os.mkfifo(root / "a" / "pipe.png")
        (root / "a" / "itself").symlink_to(".")
        assert len(by_content(load(root))) == 20
        (root / "a" / "around").symlink_to("..")
        assert len(find_images(root, deep=True)) == 20

    @pytest.mark.parametrize("lost", ["a/deeper/{}.png", "{}.png"])
    def test_images_elsewhere_are_told(self, lost, root, written):
        for n in range(3):
            path = root / lost.format(n)
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (9, 9)).save(path)
        with pytest.warns(UserWarning, match=r"3 images lie elsewhere .*0\.png; they are not read"):
            assert len(by_content(load(root))) == 20

    @pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
    def test_colours_are_those_of_the_files(self, root, mode, channels):
        write_folder(root, {"a": 10, "b": 10}, mode=mode)
        assert load(root)["X_train"].shape[1] == channels

    def test_one_coloured_file_makes_all_coloured(self, root):
        written = write_folder(root, {"a": 10, "b": 10}, mode="L")
        Image.new("RGB", (10, 12), "red").save(root / "a" / "red.png")
        data = load(root)
        grey = written["b/3.png"]
        assert np.stack([grey] * 3).tobytes() in by_content(data)
        assert data["X_train"].shape[1] == 3

    @pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
    def test_colours_can_be_chosen(self, root, mode, channels):
        """Whatever has been cached before."""
        write_folder(root, {"a": 10, "b": 10}, mode=mode)
        for chosen in (1, 3):
            assert load(root, channels=chosen)["X_train"].shape[1] == chosen
        assert load(root)["X_train"].shape[1] == channels
        assert len(caches(root)) == 2

    def test_sixteen_bits_and_transparency(self, root):
        for name, image in (
            ("deep", Image.fromarray(np.full((8, 8), 65535 // 2, np.uint16))),
            ("glass", Image.new("RGBA", (8, 8), (0, 0, 0, 0))),
        ):
            (root / name).mkdir(parents=True)
            for n in range(10):
                image.save(root / name / f"{n}.png")
        data = load(root, 8)
        for image, label in zip(data["X_train"], data["y_train"], strict=True):
            assert set(image.ravel().tolist()) <= ({127, 128}, {255})[label]


class TestDepth:
    """What is white follows from the file's kind: two images of one data set must not differ in it."""

    @pytest.mark.parametrize("suffix", ["png", "tif"])
    @pytest.mark.parametrize("value", [0, 200, 255, 300, 32768, 65535])
    def test_sixteen_bits(self, tmp_path, suffix, value):
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(np.full((8, 8), value, np.uint16)).save(path)
        assert photo(path, (8, 8), 1)[0, 0, 0] == round(255 * value / 65535)

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
    @pytest.mark.parametrize("turned", [False, True])
    def test_what_is_not_compressed_is_upright(self, tmp_path, dtype, turned):
        """Pillow mixes up the sides of such files in grey, if it opens them by their name."""
        path, upright = tmp_path / "a.tif", np.arange(40).reshape(5, 8)
        exif = Image.Exif()
        exif[0x0112] = 6 if turned else 1
        pixels = (np.rot90(upright) if turned else upright) * (np.iinfo(dtype).max // 255)
        Image.fromarray(np.ascontiguousarray(pixels, dtype)).save(path, exif=exif)
        np.testing.assert_array_equal(photo(path, (5, 8), 1)[0], upright)

    @pytest.mark.parametrize("value", [0.0, 0.2, 0.5, 1.0])
    def test_floats(self, tmp_path, value):
        path = tmp_path / "a.tif"
        Image.fromarray(np.full((8, 8), value, np.float32)).save(path)
        assert abs(float(photo(path, (8, 8), 1)[0, 0, 0]) - 255 * value) <= 0.5

    def test_what_resampling_leaves_is_cut_off(self, tmp_path):
        path = tmp_path / "a.tif"
        Image.fromarray(np.full((8, 8), 1.001, np.float32)).save(path)
        assert (photo(path, (8, 8), 1) == 255).all()

    def test_a_white_of_zero_is_refused(self, tmp_path):
        path = tmp_path / "a.tif"
        Image.fromarray(np.full((8, 8), 9, np.uint16)).save(path, tiffinfo={262: 0})
        with Image.open(path) as file:
            assert file.tag_v2[262] == 0
        with pytest.raises(ValueError, match="its white is 0"):
            photo(path, (8, 8), 1)

    @pytest.mark.parametrize(
        ("pixels", "message"),
        [
            (np.full((8, 8), np.nan, np.float32), "NaN or infinity"),
            (np.full((8, 8), -np.inf, np.float32), "NaN or infinity"),
            (np.full((8, 8), 200, np.float32), "must lie between 0 and 1 (white), got 200 to 200"),
            (np.full((8, 8), -1, np.float32), "must lie between 0 and 1 (white), got -1 to -1"),
            (np.full((8, 8), 70000, np.int32), "integers of 32 bits"),
        ],
        ids=["NaN", "infinity", "floats of 255", "negative", "32 bits"],
    )
    @pytest.mark.filterwarnings("error")
    def test_what_is_not_known_is_refused(self, tmp_path, pixels, message):
        path = tmp_path / "a.tif"
        Image.fromarray(pixels).save(path)
        with pytest.raises(ValueError, match=re.escape(message)) as error:
            photo(path, (8, 8), 1)
        assert str(path) in str(error.value)


class TestSize:
    def test_uneven_sizes_are_covered_and_cropped_around_the_middle(self, root):
        """A red square in the middle of a wide and of a high image; what stands out is cut off."""
        for name, (height, width) in (("wide", (40, 100)), ("high", (90, 30))):
            (root / name).mkdir(parents=True)
            side = min(height, width)
            pixels = np.zeros((height, width, 3), np.uint8)
            top, left = (height - side) // 2, (width - side) // 2
            pixels[top : top + side, left : left + side, 0] = 255
            for n in range(10):
                Image.fromarray(pixels).save(root / name / f"{n}.png")
        data = load(root, 16)
        inner = data["X_train"][:, :, 1:-1, 1:-1]
        assert inner[:, 0].min() > 250
        assert inner[:, 1:].max() < 5

    def test_height_comes_first(self, root):
        write_folder(root, {"a": 10, "b": 10}, size=(30, 20))
        assert load(root, (15, 10))["X_val"].shape[2:] == (15, 10)

    def test_large_photographs_are_upright(self, root):
        """Camera files lie on their side and say so in EXIF; they are decoded at a part of their size."""
        pixels = np.zeros((400, 800, 3), np.uint8)
        pixels[:, 400:] = 255  # the bright half on the right: after the turn, below
        exif = Image.Exif()
        exif[0x0112] = 6  # turn clockwise by 90 degrees
        for name in ("a", "b"):
            (root / name).mkdir(parents=True)
            for n in range(10):
                Image.fromarray(pixels).save(root / name / f"{n}.jpg", exif=exif)
        X = load(root, (40, 20))["X_train"].astype(int)
        assert X[:, :, :18].max() < 10
        assert X[:, :, 22:].min() > 245

    def test_sizes_have_caches_of_their_own(self, root, written):
        for size in (8, 16, 8):
            assert load(root, size)["X_train"].shape[2:] == (size, size)
        assert len(caches(root)) == 2


COUNTS = {"a": 40, "b": 100, "c": 17}


class TestSplit:
    def parts(self, root, **options):
        data = load(root, **options)
        return [{image.tobytes() for image in data[f"X_{part}"]} for part in PARTS], data

    def test_is_stratified_and_disjoint(self, root):
        write_folder(root, COUNTS)
        parts, data = self.parts(root, validation=0.2, test=0.25)
        assert sum(map(len, parts)) == len(set.union(*parts)) == 157
        for part, share in (("val", 0.2), ("test", 0.25)):
            got = np.bincount(data[f"y_{part}"])
            np.testing.assert_allclose(got, share * np.array([40, 100, 17]), atol=1)

    def test_depends_on_the_seed_alone(self, root, tmp_path):
        write_folder(root, COUNTS)
        first, _ = self.parts(root)
        again, _ = self.parts(shutil.copytree(root, tmp_path / "copy"))
        other, _ = self.parts(root, seed=1)
        assert first == again
        assert first[2] != other[2]

    def test_other_shares_need_no_new_cache_and_keep_the_test_images(self, root):
        write_folder(root, COUNTS)
        first, _ = self.parts(root)
        before = caches(root)
        more, _ = self.parts(root, validation=0.3)
        assert caches(root) == before
        assert first[2] == more[2]
        assert first[1] < more[1]

    def test_no_test_images(self, root):
        write_folder(root, COUNTS)
        data = load(root, test=0)
        assert len(data["X_test"]) == len(data["y_test"]) == 0
        assert len(data["X_train"]) + len(data["X_val"]) == 157

    @pytest.mark.parametrize("counts", [{"a": 3}, {"a": 2, "b": 1}, {"a": 2, "b": 2, "c": 2}])
    def test_a_few_images_leave_no_split_empty(self, root, counts):
        write_folder(root, counts)
        data = load(root)
        sizes = [len(data[f"y_{part}"]) for part in PARTS]
        assert min(sizes) >= 1
        assert sum(sizes) == sum(counts.values()) == len(by_content(data))

    def test_images_are_in_no_order_of_classes(self, root):
        write_folder(root, {"a": 60, "b": 60})
        y = load(root)["y_train"]
        assert 20 < np.count_nonzero(np.diff(y)) < 96

    def test_small_classes_share_what_is_held_out(self, root):
        """Of 20 classes with 4 images a tenth is held out, not a whole class's share or none."""
        write_folder(root, {f"class {k}": 4 for k in range(20)})
        data = load(root)
        assert 6 <= len(data["y_val"]) <= 10
        assert 6 <= len(data["y_test"]) <= 10


DAMAGES = {
    "cut": lambda array, index: array.write_bytes(array.read_bytes()[:-1]),
    "longer": lambda array, index: array.write_bytes(array.read_bytes() + b"x"),
    "empty": lambda array, index: array.write_bytes(b""),
    "no array": lambda array, index: array.unlink(),
    "no index": lambda array, index: index.unlink(),
    "index cut": lambda array, index: index.write_text(index.read_text()[:100]),
    "other format": lambda array, index: index.write_text(
        json.dumps({**json.loads(index.read_text()), "format": "other"})
    ),
    "nonsense": lambda array, index: index.write_text("[1, 2]"),
    "pickle": lambda array, index: np.save(array, np.array([None]), allow_pickle=True),
}


class TestCache:
    def test_is_made_once(self, root, decoded, written):
        first = load(root)
        assert len(decoded) == 20
        again = load(root)
        assert len(decoded) == 20
        assert by_content(first) == by_content(again)
        assert len(caches(root)) == 1

    @pytest.mark.parametrize("change", ["another", "gone", "renamed", "content", "new class"])
    def test_is_made_anew_when_files_change(self, root, decoded, change, written):
        load(root)
        file = root / "a" / "3.png"
        if change == "another":
            Image.new("RGB", (10, 12), "red").save(root / "a" / "red.png")
        elif change == "gone":
            file.unlink()
        elif change == "renamed":
            file.rename(root / "b" / "13.png")
        elif change == "content":
            Image.fromarray(255 - written["a/3.png"]).save(file)
        else:
            (root / "c").mkdir()
            file.rename(root / "c" / "3.png")
        data = load(root)
        assert len(decoded) > 30
        assert len(caches(root)) == 1
        labels = by_content(data)
        old = written["a/3.png"].transpose(2, 0, 1)
        assert len(labels) == 20 + (change == "another") - (change == "gone")
        assert labels.get(old.tobytes()) == {"another": 0, "renamed": 1, "new class": 2}.get(change)
        if change == "content":
            assert labels[(255 - old).tobytes()] == 0

    def test_others_can_read_it(self, root, written):
        """With NumPy and a JSON reader: no pickle."""
        data = load(root)
        (name,) = caches(root)
        folder = root.with_name("photos.cnnlib-cache") / name
        images = np.load(folder / "images.npy", allow_pickle=False)
        index = json.loads((folder / "index.json").read_text())
        assert index["shape"] == list(images.shape) == [20, 3, 12, 10]
        for image, label, (file, size, _) in zip(images, index["labels"], index["files"], strict=True):
            path = root / file
            assert path.parent.name == index["classes"][label]
            assert path.stat().st_size == size
            np.testing.assert_array_equal(np.asarray(Image.open(path)).transpose(2, 0, 1), image)
        np.testing.assert_array_equal(data["X_test"], images[: len(data["X_test"])])

    @pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
    def test_a_damaged_one_is_made_anew(self, root, decoded, damage, written):
        want = by_content(load(root))
        (name,) = caches(root)
        folder = root.with_name("photos.cnnlib-cache") / name
        damage(folder / "images.npy", folder / "index.json")
        assert by_content(load(root)) == want
        assert len(decoded) == 40
        assert caches(root) == [name]

    def test_nothing_is_left_of_one_that_was_not_finished(self, root, monkeypatch, written):
        def full(*_):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space left"):
                load(root)
        assert caches(root) == []

    def test_what_an_ended_process_left_is_removed_when_a_cache_is_made(self, root, written):
        left = root.with_name("photos.cnnlib-cache") / ".building"
        left.mkdir(parents=True)
        (left / "images.npy").write_bytes(bytes(1000))
        load(root)
        assert not left.exists()

    def test_one_process_at_a_time_makes_caches(self, root, decoded, written, capsys):
        """The second waits, and takes what the first has made; one that is there is read meanwhile."""
        cache, want = root.with_name("photos.cnnlib-cache"), by_content(load(root))
        (name,) = caches(root)
        (cache / name).rename(root.with_name("made"))
        other = by_content(load(root, 8))
        assert len(decoded) == 40
        with locked(cache / ".lock", "the test", "images"):
            assert by_content(load(root, 8)) == other
            result = []
            thread = threading.Thread(target=lambda: result.append(load_image_folder(root, (12, 10))))
            thread.start()
            deadline = time.monotonic() + 300
            while "waiting for another process, which reads images into" not in capsys.readouterr().out:
                assert time.monotonic() < deadline
                time.sleep(0.005)
            root.with_name("made").rename(cache / name)
        thread.join()
        assert by_content(result[0]) == want
        assert len(decoded) == 40

    def test_without_filelock_the_message_names_the_extra(self, root, written, monkeypatch):
        """A cache that is there needs no lock."""
        load(root)
        monkeypatch.setitem(sys.modules, "filelock", None)
        load(root)
        with pytest.raises(
            ImportError, match=r"^load_image_folder needs filelock: pip install cnnlib\[images\]$"
        ):
            load(root, 9)

    @pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send to another process")
    @pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
    def test_a_command_that_is_ended_meanwhile(self, root, name, written):
        """SIGTERM removes what was begun; after SIGKILL the next command does."""
        cache = root.with_name("photos.cnnlib-cache")
        slow = """
import sys, time
from cnnlib.cli.main import main
from cnnlib.data import image_cache
photo = image_cache.photo
def slowly(*arguments):
    time.sleep(1)
    return photo(*arguments)
image_cache.photo = slowly
sys.exit(main(sys.argv[1:]))
"""
        arguments = ["train", "--data", f"folder:{root}", "--image-size", "20"]
        with subprocess.Popen(
            [sys.executable, "-c", slow, *arguments, "--out", str(root.parent / "run")],
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            deadline = time.monotonic() + 300
            while not list(cache.glob(".building/images.npy")):
                assert time.monotonic() < deadline
                time.sleep(0.005)
            process.send_signal(getattr(signal, name))
            err = process.communicate(timeout=300)[1]
        if name == "SIGTERM":
            assert (process.returncode, err) == (143, "cnnlib: terminated\n")
        else:
            assert list(cache.glob(".building"))
            load(root)
        assert not list(cache.glob(".building"))
        assert not (root.parent / "run").exists()

    def test_images_that_the_disk_has_no_room_for(self, root, monkeypatch, capsys, written):
        message = "20 images of 3x9999x9999 take 6.0 GB on the disk, and that of .* has 5.0 GB free"
        usage = type("usage", (), {"free": 5 * 10**9})
        monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
        with pytest.raises(OSError, match=message):
            load(root, 9999)
        assert caches(root) == []
        monkeypatch.setattr(image_cache, "_LARGE", 1000)
        load_image_folder(root, 20, verbose=True)
        assert capsys.readouterr().out == "reading images: 20 images of 3x20x20 take 0.0 MB on the disk\n"

    def test_files_that_change_meanwhile(self, root, monkeypatch, written):
        photo = image_cache.photo

        def touching(path, *rest):
            os.utime(root / "a" / "1.png", ns=(1, time.time_ns()))
            return photo(path, *rest)

        monkeypatch.setattr(image_cache, "photo", touching)
        with pytest.raises(ValueError, match="changed while they were read"):
            load(root)
        assert caches(root) == []

    def test_several_processes_at_once(self, root):
        write_folder(root, {"a": 40, "b": 40}, size=(64, 64))
        code = f"""
import numpy as np
from cnnlib.data import load_image_folder
data = load_image_folder({str(root)!r}, 32)
print(sum(int(data[f"X_{{part}}"].astype(np.int64).sum()) for part in ("train", "val", "test")))
"""
        processes = [
            subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
            for _ in range(4)
        ]
        sums = {process.communicate(timeout=300)[0].splitlines()[-1] for process in processes}
        assert [process.returncode for process in processes] == [0] * 4
        data = load(root, 32)
        assert sums == {f"{sum(int(data[f'X_{p}'].astype(np.int64).sum()) for p in PARTS)}"}
        assert len(caches(root)) == 1

    def test_a_map_outlives_its_files(self, root, written):
        data = load(root)
        before = by_content(data)
        (root / "a" / "3.png").unlink()
        load(root)
        assert by_content(data) == before

    def test_another_place(self, root, tmp_path, monkeypatch, written):
        blocked = tmp_path / "photos.cnnlib-cache"
        blocked.write_text("a file, where no folder can be made")
        with pytest.raises(
            OSError, match=r"caches go below \$CNNLIB_CACHE if that is set: '.*photos.cnnlib-cache'"
        ):
            load(root)
        blocked.unlink()
        monkeypatch.setenv("CNNLIB_CACHE", str(tmp_path / "elsewhere"))
        load(root)
        assert caches(root) == []
        assert len(list((tmp_path / "elsewhere").glob("photos-*/12x10-*"))) == 1


class TestFoldersOfSplits:
    @pytest.mark.parametrize(
        "names",
        [("train", "val", "test"), ("Training", "Validation", "Testing"), ("train", "valid", "test")],
        ids="/".join,
    )
    def test_each_split_is_what_lies_in_its_folder(self, root, names):
        counts = dict(zip(names, (6, 3, 2), strict=True))
        for seed, (name, count) in enumerate(counts.items()):
            write_folder(root / name, {"a": count, "b": count}, seed=seed)
        data = load(root, validation=0.3)
        assert data["classes"] == ("a", "b")
        for part, (name, count) in zip(("train", "val", "test"), counts.items(), strict=True):
            assert {path.parent.parent.name for path in data[f"files_{part}"]} == {name}
            assert sorted(data[f"y_{part}"]) == [0] * count + [1] * count
            assert [path.parent.name for path in data[f"files_{part}"]] == [
                "ab"[label] for label in data[f"y_{part}"]
            ]
            for image, path in zip(data[f"X_{part}"], data[f"files_{part}"], strict=True):
                np.testing.assert_array_equal(image, np.asarray(Image.open(path)).transpose(2, 0, 1))

    @pytest.mark.parametrize("absent", ["val", "test", "both"])
    def test_a_split_without_a_folder_is_a_share_of_the_training_images(self, root, absent):
        there = {"train": 10} | {name: 4 for name in ("val", "test") if absent not in (name, "both")}
        for name, count in there.items():
            write_folder(root / name, {"a": count, "b": count})
        data = load(root, validation=0.2, test=0.1)
        sizes = {"val": 8, "test": 8} | ({"val": 4} if absent != "test" else {})
        sizes |= {"test": 2} if absent != "val" else {}
        assert {part: len(data[f"y_{part}"]) for part in ("val", "test")} == sizes
        files = [path for part in ("train", "val", "test") for path in data[f"files_{part}"]]
        assert len(set(files)) == 2 * sum(there.values())
        for part in ("val", "test"):
            own = part in there
            assert {path.parts[-3] for path in data[f"files_{part}"]} == {part if own else "train"}
            assert sorted(set(data[f"y_{part}"])) == [0, 1]

    def test_classes_may_be_called_train_and_test(self, root):
        write_folder(root, {"train": 10, "test": 10})
        assert load(root)["classes"] == ("test", "train")

    def test_a_folder_of_a_split_beside_one_of_a_class_is_a_class(self, root):
        write_folder(root, {"train": 10, "plane": 10})
        assert load(root)["classes"] == ("plane", "train")

    def test_classes_are_sorted_over_all_training_folders(self, root):
        write_folder(root / "train", {"b": 10, "c": 10})
        write_folder(root / "training", {"a": 10, "c": 10})
        data = load(root)
        assert data["classes"] == ("a", "b", "c")
        for label, path in zip(data["y_train"], data["files_train"], strict=True):
            assert path.parts[-2] == data["classes"][label]

    def test_images_without_a_class_are_told(self, root):
        write_folder(root / "train", {"a": 10, "b": 10})
        write_folder(root, {"test": 3})
        with pytest.warns(
            UserWarning, match="3 images lie elsewhere than in a class's folder itself, as .*test"
        ):
            data = load(root)
        assert {path.parts[-3] for path in data["files_test"]} == {"train"}

    def test_an_empty_class_is_left_out(self, root):
        write_folder(root / "train", {"a": 10, "b": 10})
        (root / "val" / "a").mkdir(parents=True)
        with pytest.warns(UserWarning, match="val.a is empty and makes no class"):
            data = load(root)
        assert {path.parts[-3] for path in data["files_val"]} == {"train"}


class TestFoldersThatAreNoClasses:
    def test_an_empty_one_is_told(self, root):
        write_folder(root, {"a": 10, "b": 10})
        (root / "empty").mkdir()
        (root / "empty" / ".DS_Store").touch()
        with pytest.warns(UserWarning, match="photos.empty is empty and makes no class") as told:
            assert load(root)["classes"] == ("a", "b")
        assert told[0].filename == __file__

    def test_what_macos_leaves_in_archives(self, root):
        write_folder(root, {"a": 10, "b": 10})
        write_folder(root / "__MACOSX", {"a": 2})
        assert load(root)["classes"] == ("a", "b")

    def test_none_is_left(self, root):
        (root / "a").mkdir(parents=True)
        with pytest.warns(UserWarning, match="empty"), pytest.raises(ValueError, match="all are empty"):
            load(root)


class TestErrors:
    def test_unreadable_files_are_named(self, root):
        write_folder(root, {"a": 20, "b": 10})
        whole = (root / "a" / "0.png").read_bytes()
        (root / "a" / "cut.png").write_bytes(whole[: len(whole) // 2])
        (root / "b" / "text.jpg").write_text("text")
        (root / "b" / "empty.png").write_bytes(b"")
        with pytest.raises(ValueError, match="cannot be read as an image") as caught:
            load(root)
        assert all(
            str(root / name) in str(caught.value) for name in ("a/cut.png", "b/text.jpg", "b/empty.png")
        )
        assert caches(root) == []
        for n in range(15):
            (root / "b" / f"x{n}.png").write_text("text")
        with pytest.raises(
            ValueError,
            match=r"; and 8 more; skip_unreadable=True \(--skip-unreadable\) leaves such files out$",
        ):
            load(root)

    @pytest.mark.parametrize(
        ("made", "error", "message"),
        [
            ([], FileNotFoundError, "there is no folder"),
            (["photos/x.png"], ValueError, "must hold a folder of images for each class"),
            (["photos/a/x.png", "photos/b/x.txt"], ValueError, "photos.b holds no images; passed over by"),
            (["photos/all/a/x.png"], ValueError, "photos.all the folder that is meant?"),
            (["photos/train/a/x.png"], ValueError, "of 1 images none is left for training"),
            (
                ["photos/train/a/x.png", "photos/val/b/x.png"],
                ValueError,
                "val.b is of a class that the train",
            ),
            (
                ["photos/train/a/x.txt", "photos/val/b/x.png"],
                ValueError,
                "train.a holds no images; passed over",
            ),
            (["photos/a/x.png", "photos/b/x.png"], ValueError, "of 2 images none is left for training"),
        ],
    )
    def test_folders(self, root, made, error, message):
        for name in made:
            path = root.parent / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (3, 3)).save(path, format="PNG")
        with pytest.raises(error, match=message):
            load(root)

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"size": 0}, ValueError, "size must be at least 1"),
            ({"size": 1.5}, TypeError, "size must be an integer"),
            ({"size": "64"}, TypeError, "size must be an integer"),
            ({"size": (1, 2, 3)}, ValueError, "size must be an integer or"),
            ({"validation": 1.0}, ValueError, "validation must be below 1"),
            ({"test": -0.1}, ValueError, "test must be in"),
            ({"validation": 0.5, "test": 0.5}, ValueError, "validation \\+ test must be below 1"),
            ({"channels": 2}, ValueError, "channels must be one of '1', '3'"),
            ({"channels": "grey"}, TypeError, "channels must be an integer"),
            ({"seed": None}, TypeError, "seed must be an integer"),
            ({"seed": -1}, ValueError, "seed must be"),
        ],
        ids=str,
    )
    def test_arguments(self, root, options, error, message, written):
        with pytest.raises(error, match=f"^load_image_folder: {message}"):
            load(root, **options)

    def test_without_pillow_the_extra_is_named(self, tmp_path):
        code = (
            "import sys; sys.modules['PIL'] = None\n"
            f"from cnnlib.data import load_image_folder\nload_image_folder({str(tmp_path)!r}, 8)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
        assert done.stderr.splitlines()[-1] == (
            "ImportError: load_image_folder needs Pillow: pip install cnnlib[images]"
        )

    def test_progress(self, root, monkeypatch, capsys, written):
        monkeypatch.setattr(image_cache, "_REPORT_SECONDS", 0)
        load_image_folder(root, 8)
        assert "reading images: 20 of 20" in capsys.readouterr().out
        load(root, 9)
        assert capsys.readouterr().out == ""


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"  # how such a file begins


class TestHeic:
    advice = r"become JPEG by pillow-heif \(pip install pillow-heif\)"

    def test_a_class_of_nothing_else(self, root):
        write_folder(root, {"a": 10, "b": 10})
        (root / "c").mkdir()
        (root / "c" / "1.HEIC").write_bytes(HEIC)
        with pytest.raises(ValueError, match=rf"c holds no images; .*\.heic \(1\).*{self.advice}"):
            load(root)

    def test_a_file_that_is_called_otherwise(self, root):
        write_folder(root, {"a": 10, "b": 10})
        (root / "a" / "x.jpg").write_bytes(HEIC)
        with pytest.raises(ValueError, match=rf"x.jpg cannot be read.*{self.advice}.*--skip-unreadable"):
            load(root)
        (root / "a" / "x.jpg").write_bytes(b"text")
        with pytest.raises(ValueError, match="cannot be read") as caught:
            load(root)
        assert "heif" not in str(caught.value)

    def test_an_open_file(self):
        """Whoever sent a file to a server, or has a Detector read it, has no option to leave it out."""
        with pytest.raises(ValueError, match=self.advice) as caught:
            open_image(io.BytesIO(HEIC))
        assert "--skip-unreadable" not in str(caught.value)


class TestSkipUnreadable:
    @pytest.fixture
    def broken(self, root):
        write_folder(root, {"a": 12, "b": 12})
        (root / "a" / "3.png").write_text("text")
        (root / "b" / "5.png").write_bytes(b"")
        return root

    def test_the_others_stay_in_their_splits(self, broken, tmp_path):
        twin = write_and_return(tmp_path / "whole" / "photos")
        whole = load(twin)
        data = load(broken, skip_unreadable=True)
        assert [fault.split()[0] for fault in sorted(data["unreadable"])] == [
            str(broken / "a" / "3.png"),
            str(broken / "b" / "5.png"),
        ]
        assert whole["unreadable"] == ()
        for part in PARTS:
            names = [file.relative_to(broken).as_posix() for file in data[f"files_{part}"]]
            others = [
                file.relative_to(tmp_path / "whole" / "photos").as_posix() for file in whole[f"files_{part}"]
            ]
            assert names == [name for name in others if name not in ("a/3.png", "b/5.png")]
            for name, image, label in zip(names, data[f"X_{part}"], data[f"y_{part}"], strict=True):
                assert data["classes"][label] == name[0]
                np.testing.assert_array_equal(image, np.asarray(Image.open(broken / name)).transpose(2, 0, 1))

    def test_they_are_tried_once(self, broken, decoded):
        first = load(broken, skip_unreadable=True)
        del decoded[:]
        again = load(broken, skip_unreadable=True)
        assert decoded == []
        assert again["unreadable"] == first["unreadable"]
        with pytest.raises(ValueError, match=r"3\.png cannot be read"):
            load(broken)
        Image.new("RGB", (10, 12)).save(broken / "a" / "3.png")
        data = load(broken, skip_unreadable=True)
        assert len(data["unreadable"]) == 1

    def test_a_link_to_nothing_is_one(self, broken):
        (broken / "a" / "4.png").unlink()
        (broken / "a" / "4.png").symlink_to("nowhere.png")
        with pytest.raises(ValueError, match=r"there is no image \S*4\.png"):
            load(broken)
        assert len(load(broken, skip_unreadable=True)["unreadable"]) == 3

    def test_none_is_left(self, root):
        (root / "a").mkdir(parents=True)
        (root / "a" / "0.png").write_text("text")
        with pytest.raises(ValueError, match="none is left for training"):
            load(root, skip_unreadable=True)


class TestNormalization:
    def test_bytes_are_counted_exactly(self, rng):
        X = rng.integers(0, 256, size=(50, 3, 9, 7), dtype=np.uint8)
        normalize = Normalization.fit(X)
        wide = X.astype(np.float64)
        np.testing.assert_allclose(normalize.mean, wide.mean(axis=(0, 2, 3)), rtol=1e-13)
        np.testing.assert_allclose(normalize.std, wide.std(axis=(0, 2, 3)), rtol=1e-13)
        out = normalize(X)
        assert out.dtype == np.float32
        np.testing.assert_allclose(out.mean(axis=(0, 2, 3)), 0, atol=1e-5)
        np.testing.assert_allclose(out.std(axis=(0, 2, 3)), 1, atol=1e-5)

    def test_floats_keep_their_type_and_are_left_alone(self, rng, dtype):
        X = rng.standard_normal((2000, 2, 3, 3)).astype(dtype)  # more than are summed at once
        given = X.copy()
        normalize = Normalization.fit(X)
        out = normalize(X)
        np.testing.assert_allclose(normalize.mean, X.mean(axis=(0, 2, 3), dtype=np.float64), atol=1e-12)
        np.testing.assert_allclose(normalize.std, X.std(axis=(0, 2, 3), dtype=np.float64), rtol=1e-7)
        assert out.dtype == dtype
        np.testing.assert_array_equal(X, given)

    @pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint32])
    def test_integers_far_from_0_are_told_apart(self, rng, kind):
        X = 2_000_000_000 + rng.integers(0, 100, size=(50, 2, 3, 3)).astype(kind)
        normalize = Normalization.fit(X)
        out = normalize(X)
        assert out.dtype == np.float32
        np.testing.assert_allclose(out, normalize(X.astype(np.float64)), rtol=1e-6, atol=1e-7)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_images_that_are_not_finite(self, value):
        X = np.zeros((2, 1, 2, 2))
        X[1, 0, 1] = value
        with np.errstate(invalid="ignore"), pytest.raises(ValueError, match=r"fit: X holds NaN, infinity"):
            Normalization.fit(X)

    def test_white(self):
        X = np.zeros((2, 1, 2, 2))
        X[0] = 1
        assert Normalization.fit(X).white == 1
        assert Normalization.fit(255 * X).white == 255
        assert Normalization.fit(X.astype(np.uint8)).white == 255
        assert Normalization.fit((255 * X).astype(np.uint16)).white == 255
        assert Normalization.fit((65535 * X).astype(np.uint16)).white == 65535

    @pytest.mark.parametrize("factor", [1, 255])
    def test_writing_is_known_by_its_ground(self, factor):
        digits = factor * load_digits()["X_train"]
        fitted = Normalization.fit(digits)
        assert (fitted.ink, fitted.white) == (True, factor)
        assert not Normalization.fit(digits, ink=False).ink
        assert not Normalization.fit(factor - digits).ink
        assert not Normalization.fit(np.repeat(digits, 3, axis=1)).ink
        assert Normalization.fit(factor - digits, ink=True).ink

    def test_no_contrast(self):
        out = Normalization.fit(np.full((3, 1, 2, 2), 7, np.uint8))(np.full((1, 1, 2, 2), 9, np.uint8))
        np.testing.assert_array_equal(out, 2)

    @pytest.mark.parametrize("value", [0.1, 0.3, 117.3])
    def test_no_contrast_but_rounding(self, value):
        """The mean of many equal numbers misses them by a bit, by which others were divided."""
        normalize = Normalization.fit(np.full((1000, 1, 8, 8), value))
        assert normalize.std == (1,)
        out = normalize(np.full((1, 1, 2, 2), value + 0.5))
        np.testing.assert_allclose(out, 0.5, rtol=1e-12)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((0, 0), "std must be above 0"),
            (([1, 2], [1, 2, 3]), "mean has 2 channels, std 3"),
            (([], []), "mean must have a number for each channel"),
            ((float("nan"), 1), "mean must be finite"),
            ((0, 1, -1), "white must be finite and at least 0"),
        ],
        ids=str,
    )
    def test_errors(self, arguments, message):
        with pytest.raises(ValueError, match=f"Normalization: {message}"):
            Normalization(*arguments)

    def test_other_channels_are_refused(self):
        with pytest.raises(ValueError, match=r"\(N, 3, H, W\) as mean has 3 channels, got shape \(1, 1"):
            Normalization((1, 2, 3), (1, 1, 1))(np.zeros((1, 1, 4, 4)))
        with pytest.raises(ValueError, match="images"):
            Normalization(0, 1)(np.zeros((4, 4)))


def small_net(shape, num_classes=2):
    return ConvNet(
        [{"conv": 4, "stride": 2}, "batchnorm", "relu", "global_avg_pool"], shape, num_classes, seed=0
    )


class TestTraining:
    def test_equals_training_on_normalised_arrays(self, root):
        write_folder(root, {"a": 40, "b": 40})
        data = load(root)
        normalize = Normalization.fit(data["X_train"])
        settings = {"num_epochs": 2, "batch_size": 16, "seed": 3, "augment": ["flip"], "verbose": False}
        mapped = Solver(small_net((3, 12, 10)), data, preprocess=normalize, **settings)
        plain_data = {k: normalize(v) if k[0] == "X" else v for k, v in data.items()}
        plain = Solver(small_net((3, 12, 10)), plain_data, **settings)
        for solver in (mapped, plain):
            solver.train()
        assert mapped.loss_history == plain.loss_history
        assert mapped.val_loss_history == plain.val_loss_history
        assert mapped.val_acc_history == plain.val_acc_history
        assert mapped.check_accuracy(data["X_test"], data["y_test"]) == plain.check_accuracy(
            plain_data["X_test"], data["y_test"]
        )

    def test_checkpoints_hold_the_normalisation(self, root, tmp_path):
        write_folder(root, {"a": 20, "b": 20})
        data = load(root)
        normalize = Normalization.fit(data["X_train"])
        settings = {"num_epochs": 3, "batch_size": 16, "seed": 3, "verbose": False}
        whole = Solver(
            small_net((3, 12, 10)), data, preprocess=normalize, checkpoint_name=tmp_path / "run", **settings
        )
        whole.train()
        resumed = Solver.resume(tmp_path / "run_epoch_1.npz", small_net((3, 12, 10)), data)
        assert resumed.options.preprocess == normalize
        resumed.train()
        assert resumed.loss_history == whole.loss_history

    def test_a_function_of_the_users_own_is_asked_for(self, root, tmp_path):
        write_folder(root, {"a": 20, "b": 20})
        data = load(root)
        settings = {"num_epochs": 1, "checkpoint_name": tmp_path / "run", "verbose": False}
        Solver(small_net((3, 12, 10)), data, preprocess=lambda X: X / 255, **settings).train()
        with pytest.raises(ValueError, match="the run's preprocess was a function of its own"):
            Solver.resume(tmp_path / "run_epoch_1.npz", small_net((3, 12, 10)), data)

    def test_one_that_changes_what_it_is_given(self):
        """Validation images were slices of the user's, which so went through it once more in each epoch."""

        def in_place(X):
            X -= 5
            return X

        class InPlace(LinearModel):
            def loss(self, X, y=None):
                return super().loss(in_place(X), y)

        runs, X, y = [], np.random.default_rng(0).standard_normal((30, 3, 12, 10)), np.arange(30) % 2
        for kind, preprocess in zip((LinearModel, LinearModel, InPlace), (in_place, lambda X: X - 5, None)):
            data = {"X_train": X.copy(), "y_train": y, "X_val": X[:10].copy(), "y_val": y[:10]}
            runs.append(Solver(kind(360, 2), data, preprocess=preprocess, seed=0, verbose=False))
            runs[-1].train()
            runs[-1].check_accuracy(data["X_val"], data["y_val"])
            np.testing.assert_array_equal(data["X_train"], X)
            np.testing.assert_array_equal(data["X_val"], X[:10])
        assert runs[0].val_loss_history == runs[1].val_loss_history == runs[2].val_loss_history

    def test_whitening_filters_see_normalised_images(self, root):
        write_folder(root, {"a": 40, "b": 40})
        data = load(root)
        normalize = Normalization.fit(data["X_train"])
        spec = [{"conv": 24, "size": 2, "pad": 0, "init": "whiten"}, "relu", "global_avg_pool"]
        nets = [ConvNet(spec, (3, 12, 10), 2, seed=0) for _ in range(2)]
        Solver(nets[0], data, preprocess=normalize, verbose=False)
        nets[1].initialize(normalize(data["X_train"]))
        np.testing.assert_array_equal(nets[0].params["W1"], nets[1].params["W1"])


def traced_peak(function):
    """The most memory that Python's objects and NumPy's arrays take at a time while it runs, in bytes."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_large_images_train_in_bounded_memory(tmp_path):
    """600 images of 224x224 are 90 MB as bytes and 361 MB as float32, which never exist at once."""
    shape = (600, 3, 224, 224)
    images = np.lib.format.open_memmap(tmp_path / "X.npy", mode="w+", dtype=np.uint8, shape=shape)
    rng = np.random.default_rng(0)
    for image in images:
        image[:] = rng.integers(0, 255, dtype=np.uint8, size=(3, 1, 1))
    images.flush()
    X = np.load(tmp_path / "X.npy", mmap_mode="r")
    y = rng.integers(2, size=600)
    data = {"X_train": X[:520], "y_train": y[:520], "X_val": X[520:], "y_val": y[520:]}
    steps = []

    def train():
        normalize = Normalization.fit(data["X_train"])
        settings = {"preprocess": normalize, "batch_size": 8, "num_epochs": 1, "verbose": False}
        solver = Solver(small_net(shape[1:]), data, **settings)
        solver.train()
        steps.extend(solver.loss_history)

    peak = traced_peak(train)
    assert len(steps) == 65
    assert peak < 0.9 * images.nbytes, f"{peak / 1e6:.0f} MB"


@pytest.mark.slow
def test_decoding_takes_bounded_memory(root, monkeypatch):
    """240 images of 512x512 are 189 MB as bytes; the disk is slower than those who decode."""
    write_folder(root, {"a": 120, "b": 120}, size=(32, 32), suffix="jpg")
    sizes = []

    def read():
        data = load(root, 512)
        Normalization.fit(data["X_train"])
        sizes.extend(data[f"X_{part}"].nbytes for part in PARTS)

    def slowly(items, *_):
        for item in items:
            time.sleep(0.01)
            yield item

    monkeypatch.setattr(image_cache, "_reported", slowly)
    workers = os.cpu_count() or 1
    assert traced_peak(read) < 40e6 + 8 * workers * 3 * 512 * 512
    assert sum(sizes) == 240 * 3 * 512 * 512
