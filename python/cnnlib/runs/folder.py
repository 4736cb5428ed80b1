"""The folder that a training run leaves: checkpoint, history.csv, config.json, pictures, a report."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from typing import Any

from cnnlib._files.exclusive import LOCK_FILE, exclusive
from cnnlib._files.written import TEMPORARY, written_whole
from cnnlib.data import Normalization
from cnnlib.data.image_folder import folder_digest
from cnnlib.models.spec.reading import COLOURS
from cnnlib.runs.config import CONFIG, MODEL, RunConfig, lies_in_run
from cnnlib.runs.data_sets import DataSet, parse_data
from cnnlib.runs.log import LOG_FILES, history, remove_event_files
from cnnlib.runs.tasks import put_back
from cnnlib.saved_model.model_file import read_model
from cnnlib.solver import Solver, load_weights
from cnnlib.solver.checkpoints import interrupted_path


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[bool]:
    """Hold the lock of `folder`; ValueError where another process, or command in this one, holds it.

    The value is False where the folder has no lock.
    """
    with contextlib.ExitStack() as stack:
        try:
            held = stack.enter_context(exclusive(folder))
        except BlockingIOError:
            raise ValueError(f"{folder} is in use: another training is writing to it") from None
        yield held


def refuse_within(out: str | os.PathLike[str], images: str | os.PathLike[str]) -> None:
    """Refuse a folder of results within one of images, where the next run would find it."""
    if Path(out).resolve().is_relative_to(Path(images).resolve()):
        raise ValueError(f"the next run would take {out} for images of {images}: name another --out")


CHECKPOINT = "checkpoint"  # the Solver appends _epoch_K.npz, or _interrupted.npz
PICTURES = ("curves.png", "filters.png", "confusion.png", "mistakes.png")
PICTURES_OF = {"classes": PICTURES, **dict.fromkeys(("values", "pixels"), ("curves.png", "samples.png"))}
REPORT = "report.html"
RUNS = "runs"  # where they are, unless --out says otherwise


class Run:
    """The folder of a training run.

    Attributes
    ----------
    folder : Path
    config : RunConfig
        What its config.json says; there is none until it is written.
    has_lock : bool
        False if the folder turned out to have no lock, so that others may write to it.

    Examples
    --------
    >>> with contextlib.ExitStack() as held:
    ...     run = Run.create("run", overwrite=False, data_name="digits", held=held)
    >>> run.newest_checkpoint() is None, run.resume_command
    (True, 'cnnlib train --resume run')
    """

    def __init__(self, folder: str | os.PathLike[str], config: RunConfig | None = None) -> None:
        self.folder = Path(folder)
        self.has_lock = True
        self._config = config
        self._superfluous: Path | None = None  # the checkpoint that the next one replaces

    @property
    def config(self) -> RunConfig:
        assert self._config is not None  # a run that begins writes it first
        return self._config

    @classmethod
    def create(
        cls,
        out: str | None,
        overwrite: bool,
        data_name: str,
        held: contextlib.ExitStack,
        keep: bool = False,
    ) -> Run:
        """Begin a run in the folder `out`, or, if that is None, in the next free ``runs/<data>-<number>``.

        A folder that is not empty is refused; with `overwrite` the files of the earlier run in it go, and
        no others; with `keep` too they stay until they are written anew. The folder is locked as long as
        `held`, a ``contextlib.ExitStack``, is open.
        """
        if out is None:
            if overwrite:
                raise ValueError("--overwrite replaces the run in a folder that --out names")
            run = cls(_next_free(Path(RUNS), data_name))
            run._lock(held)
            return run
        run = cls(out)
        if run.folder.exists() and not run.folder.is_dir():
            raise ValueError(f"--out {out} is a file")
        run.folder.mkdir(parents=True, exist_ok=True)
        run._lock(held)
        if any(path.name != LOCK_FILE for path in run.folder.iterdir()):
            if not overwrite:
                raise ValueError(f"--out {out} exists and is not empty; --overwrite replaces the run in it")
            if (run.folder / CONFIG).is_file() and not lies_in_run(run.folder / CONFIG):
                raise ValueError(f"--overwrite: {run.folder / CONFIG} is not that of a cnnlib run")
            if not keep:
                run._remove_files()
        return run

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Run:
        """Open the run in the folder `path`, or around the checkpoint file `path`."""
        path = Path(path)
        folder = path.parent if path.is_file() else path
        if not folder.is_dir():
            raise FileNotFoundError(f"there is no run {path}")
        if path.is_file() and not (folder / CONFIG).exists():
            raise FileNotFoundError(f"{path} is no checkpoint of a run: beside it there is no {CONFIG}")
        return cls(folder, RunConfig.read(folder / CONFIG))

    def go_on_from(self, checkpoint: Path, held: contextlib.ExitStack) -> list[int]:
        """Get ready for the run to go on from a checkpoint; returns the later epochs that have one.

        Those files stay until they are overwritten, and so do the earlier ones: only a lone checkpoint makes
        room for its successor. The folder is locked as long as `held`, a ``contextlib.ExitStack``, is open.
        """
        self._lock(held)
        files = self._checkpoints()
        epoch = next((epoch for epoch, path in files.items() if path == checkpoint), None)
        if len(files) == 1 and (epoch is not None or checkpoint == self._interrupted):
            (self._superfluous,) = files.values()
        return [] if epoch is None else sorted(later for later in files if later > epoch)

    @property
    def data_set(self) -> DataSet:
        return self.config.data_set

    @property
    def classes(self) -> tuple[str, ...]:
        """The names that a file of the model gives them."""
        known = self.config.classes
        return COLOURS if self.config.source.labels is False and len(known) == len(COLOURS) else known

    @property
    def normalization(self) -> Normalization:
        return self.config.normalization

    @property
    def tta(self) -> str | None:
        """The views that the run's model is tested with, see cnnlib.augment.averaged_scores."""
        return self.config.training.get("tta")

    @property
    def began_with(self) -> dict[str, Any] | None:
        """The options of a run that began with somebody's network (--from), by name; None of others."""
        return self.config.began_with

    @property
    def resume_command(self) -> str:
        return f"cnnlib train --resume {shlex.quote(str(self.folder))}"

    def build_model(self) -> Any:
        """Build the run's model, untrained."""
        network = self.config.network
        assert network is not None  # who began with somebody's network has it in a file
        try:
            return network.build()
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise ValueError(f"{self.folder / CONFIG} does not describe a model: {error}") from error

    def checkpoint_name(self) -> str:
        return str(self.folder / CHECKPOINT)

    def newest_checkpoint(self, epoch: int | None = None) -> Path | None:
        """Find the one from within an epoch, if the run was interrupted; else that of the latest, or None.

        That is `epoch`, or else the one that history.csv ends with: files of later ones may be left from
        before the run went on from an older checkpoint.
        """
        if self._interrupted.is_file():
            return self._interrupted
        files = self._checkpoints()
        known = (latest for latest in (epoch, self._last_epoch()) if latest in files)
        return files[next(known, max(files))] if files else None

    def checkpoint(self, path: str | os.PathLike[str]) -> Path:
        """Return the file `path` if it is one, else (the run's folder was named) the newest checkpoint."""
        if self.began_with is not None:
            raise ValueError(
                f"{self.folder} began with --from and has no checkpoints; {self.resume_command} makes its "
                "report anew, of the features that are kept"
            )
        if Path(path).is_file():
            return Path(path)
        newest = self.newest_checkpoint()
        if newest is None:
            raise FileNotFoundError(f"{self.folder} holds no checkpoint: its first epoch was never completed")
        return newest

    def load_model(self, path: str | os.PathLike[str], which: str) -> Any:
        """Load the trained model: 'best' or 'last' of the checkpoint that `path` names."""
        if self.began_with is not None:
            if which != "best":
                raise ValueError(f"--which {which}: {self.folder} began with --from, and keeps one model")
            if not (self.folder / MODEL).is_file():
                raise FileNotFoundError(f"{self.folder} holds no {MODEL}: go on with {self.resume_command}")
            return read_model(self.folder / MODEL)
        model = self.build_model()
        try:
            load_weights(self.checkpoint(path), model, which)
        except FileNotFoundError:  # a training has just put its next one in that one's place
            load_weights(self.checkpoint(path), model, which)
        put_back(model, self.config.scale)
        return model

    def load_data(self, option: str | None, parts: Sequence[str], any_images: bool = False) -> dict[str, Any]:
        """Load the run's data, not normalised; `option` (``--data``, or None) may say that it lies elsewhere.

        A folder must have the images of the run, by their names: with others the split is another, and the
        test images are some that the model has learnt. `any_images` admits them.
        """
        source, folder = self.config.source, self.config.source.folder
        if option is not None:
            other, folder = parse_data(option)
            if other != source.name:
                raise ValueError(f"the run's model is for {source.name}, not for --data {option}")
        if source.names is not None and not any_images:
            assert folder is not None  # it is one of images
            if source.names != folder_digest(folder, source.task):
                raise ValueError(
                    f"{folder} no longer holds the run's images, so its split is another; "
                    "cnnlib eval --split all looks at all the images there are"
                )
        return self.data_set.load(folder, parts)

    def write_config(self, config: RunConfig) -> None:
        """Write config.json: what the run is from now on."""
        self._config = config
        self.write_file(CONFIG, json.dumps(config.content(), indent=2) + "\n")

    def write_changed(self, changed: Mapping[str, Any], logs: Sequence[str]) -> None:
        """Bring config.json up to date with settings of the training that have changed, and kinds of logs."""
        new = replace(self.config, training={**self.config.training, **changed}, log=tuple(logs))
        if new != self._config:
            self.write_config(new)

    def after_epoch(self, solver: Solver, keep_checkpoints: bool) -> None:
        """Bring history.csv up to date; drop the checkpoints that the newest one makes superfluous."""
        self.write_file("history.csv", "".join(f"{','.join(row)}\n" for row in history(solver)))
        newest = Path(f"{solver.checkpoint_name}_epoch_{solver.epoch}.npz")
        if self._superfluous is not None and self._superfluous != newest and newest.is_file():
            self._superfluous.unlink(missing_ok=True)
        self.has_lock = True  # until its folder turns out to have none
        self._superfluous = None if keep_checkpoints else newest

    def _lock(self, held: contextlib.ExitStack) -> None:
        """Hold the folder's lock as long as `held` is open; remove what killed trainings did not finish."""
        self.has_lock = held.enter_context(locked(self.folder))
        if self.has_lock:
            for path in self.folder.glob(f".{CHECKPOINT}_*{TEMPORARY}"):
                path.unlink(missing_ok=True)

    @property
    def _interrupted(self) -> Path:
        return Path(interrupted_path(self.checkpoint_name()))

    def _last_epoch(self) -> int | None:
        """Return the epoch that history.csv ends with; None where it says none."""
        try:
            with open(self.folder / "history.csv", newline="", encoding="utf-8") as file:
                return int(float(list(csv.DictReader(file))[-1]["epoch"]))
        except (FileNotFoundError, LookupError, OverflowError, TypeError, ValueError, csv.Error):
            return None

    def _checkpoints(self) -> dict[int, Path]:
        pattern = re.compile(rf"{CHECKPOINT}_epoch_(\d+)\.npz")
        matches = ((pattern.fullmatch(path.name), path) for path in self.folder.iterdir())
        return {int(match[1]): path for match, path in matches if match}

    def _remove_files(self) -> None:
        names = [CONFIG, "history.csv", REPORT, MODEL, *LOG_FILES.values()]
        names += chain(*PICTURES_OF.values())
        files = (self.folder / name for name in names)
        for path in (*self._checkpoints().values(), self._interrupted, *files):
            path.unlink(missing_ok=True)
        remove_event_files(self.folder)

    def write_file(self, name: str, text: str) -> None:
        """Write a text file whole or not at all."""
        with written_whole(self.folder / name) as file:
            file.write(text.encode("utf-8", "surrogateescape"))


def _next_free(parent: Path, name: str) -> Path:
    """Make and return the folder ``parent/name-K``, with K one more than the highest that is there."""
    parent.mkdir(parents=True, exist_ok=True)
    pattern = re.compile(rf"{re.escape(name)}-(\d+)")
    taken = [int(match[1]) for path in parent.iterdir() if (match := pattern.fullmatch(path.name))]
    for number in count(max(taken, default=0) + 1):
        with contextlib.suppress(FileExistsError):  # another run that starts at the same time
            folder = parent / f"{name}-{number}"
            folder.mkdir()
            return folder
    raise AssertionError  # count() does not end
