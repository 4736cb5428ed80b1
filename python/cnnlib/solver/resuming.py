"""A training as a state, and back: what checkpoints hold, and how a run goes on from one."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from cnnlib._params import path_text
from cnnlib._params.random import random_state, random_stream, set_random_state
from cnnlib._typing import Params, Trainable
from cnnlib.data.normalization import Normalization
from cnnlib.distributed.communicator import as_communicator
from cnnlib.models.state import (
    check_model,
    check_sample_shapes,
    checked_frozen,
    restore,
    set_label_smoothing,
    snapshot,
)
from cnnlib.solver.evaluation import ValidationLoss, chosen_loss, chosen_metrics, outputs_of, sample_images
from cnnlib.solver.minibatches import checked_data
from cnnlib.solver.options import OPTIONS, Options, is_own
from cnnlib.solver.record import Record, build_early_stopping
from cnnlib.solver.run_file import HISTORIES, check_state, checkpoint_prefix, histories_of, parts_of, read_run
from cnnlib.solver.update import Updater, build_averages
from cnnlib.typing import Augment, Schedule

Run = TypeVar("Run", bound="ResumableRun")
_UPDATE = ("update_rule", "optim_config", "lr_decay", "schedule", "weight_decay", "clip_norm", "rate_factors")


class ResumableRun(Options):
    """A model in training: its data, its options (checked `settings`), and how far it has come.

    The state can be looked at, saved and restored.
    """

    def __init__(self, model: Trainable, data: Mapping[str, Any], **settings: Any) -> None:
        check_model("Solver", model)
        self.model: Any = model
        labels = settings["loss"] is settings["metrics"] is getattr(model, "criterion", None) is None
        labels = labels and getattr(model, "head", "classes") == "classes"
        splits = checked_data(data, labels, outputs_of(model))
        self.X_train, self.y_train, self.X_val, self.y_val = splits
        if settings["preprocess"] is None or isinstance(settings["preprocess"], Normalization):
            check_sample_shapes(model, X_train=self.X_train, X_val=self.X_val)
        vars(self).update(settings)  # each under its own name
        if hasattr(model, "initialize"):
            model.initialize(sample_images(self.X_train, self.preprocess))
        loss = chosen_loss(model, self.loss, self.y_train)
        self._loss_is_known = loss is not None
        set_label_smoothing(model, self.label_smoothing, loss)
        self._frozen = checked_frozen("Solver: model", getattr(model, "frozen", ()), model.params)
        of_updates = {name: settings[name] for name in _UPDATE}
        self._updater = Updater(model.params, **of_updates, frozen=self._frozen)
        self._metrics = chosen_metrics(self.metrics, loss, self.y_train)
        self._val_metrics = [*self._metrics, ValidationLoss(loss)]
        self._record = Record(self._metrics, self.monitor, self.early_stopping)
        compares = self.keep == "best" or self.early_stopping is not None
        if compares and self.monitored == "val_loss" and not self._loss_is_known:  # always NaN
            raise ValueError(
                "Solver: epochs are compared by val_loss, which is not known where the model has a loss of "
                "its own: say loss=, another monitor, or keep='last'"
            )
        histories = self._record.histories
        self.histories, self.loss_history = histories, histories["loss"]
        self.train_acc_history = histories.get("train_accuracy", [])
        self.val_acc_history, self.val_loss_history = histories.get("accuracy", []), histories["val_loss"]
        self.learning_rate_history = histories["learning_rate"]
        self.epoch_seconds = histories["epoch_seconds"]
        self._averages = build_averages(model, self.ema_decay, self.lookahead)
        self._last: Any = None  # a snapshot, set while the model holds the best parameters
        self._random = random_stream(self.seed, "Solver")
        self._augment_seed: int | None = None  # drawn when the training starts
        self._resumed_random_state = None  # np.random's, to be put back when training goes on
        self._pending: list[Any] | None = None  # minibatches left of the epoch that is under way
        self._seconds = 0.0  # spent on that epoch so far
        self._known_end = self.num_epochs  # of the training so far; a higher `num_epochs` has been raised

    @property
    def monitored(self) -> str:
        return self._record.monitor.name

    @property
    def epoch(self) -> int:
        return self._record.epoch

    @property
    def best_epoch(self) -> int:
        return self._record.best_epoch

    @property
    def best_val_acc(self) -> float:
        return self._record.at_best("accuracy") or 0.0

    @property
    def best_params(self) -> Params:
        return {} if self._record.best is None else self._record.best["params"]

    @property
    def last_params(self) -> Params:
        return dict(self.model.params) if self._last is None else self._last["params"]

    @property
    def optim_configs(self) -> dict[str, dict[str, Any]]:
        return self._updater.configs

    @classmethod
    def resume(
        cls: type[Run],
        path: str | os.PathLike[str],
        model: Trainable,
        data: Mapping[str, Any],
        *,
        num_epochs: int | None = None,
        update_rule: Callable[..., Any] | None = None,
        schedule: Schedule | None = None,
        loss: Callable[..., Any] | None = None,
        metrics: Any = None,
        preprocess: Callable[..., Any] | None = None,
        augment: Augment | None = None,
        early_stopping: int | Mapping[str, Any] | None = None,
        print_every: int | None = None,
        verbose: bool | None = None,
        checkpoint_name: str | os.PathLike[str] | None = None,
        on_epoch: Callable[[Any], Any] | None = None,
        comm: Any = None,
    ) -> Run:
        """Rebuild a Solver from the checkpoint `path`.

        Its ``train()`` goes on to the same bits as the uninterrupted run: parameters, histories,
        batch-norm statistics, optimizer state, random streams. For a run without a `seed`, the global
        state of ``np.random`` is put back when ``train()`` begins.

        Parameters
        ----------
        path : str or path
        model : object
            With the same parameters (names, shapes, dtypes) as the one that was saved.
        data : dict
            The same data as before.
        num_epochs : int or None
            Another end of the run; so a finished one can be continued, or one that was stopped early. (A
            schedule that depends on it goes on from the new course.)
        update_rule, schedule, loss, metrics, preprocess, augment : callable or None
            Needed where the run's was a function of the user's own; `metrics` as in :class:`Solver`, all of
            them.
        early_stopping : int, dict, False or None
            Another rule for the run's end, False for none; None keeps the run's own. Epochs are compared as
            before, unless it names a `monitor`.
        print_every, verbose, checkpoint_name, on_epoch
            As in :class:`Solver`; None keeps the run's own settings. Checkpoints go on beside `path`.
        comm
            As in :class:`Solver`; rank 0 reads the file. The number of ranks need not be the run's.

        Raises
        ------
        ValueError
            If the file is damaged, no checkpoint of a Solver, or from another model or number of training
            samples; the message names it, and the model is left alone.
        OSError
            If it cannot be read.
        """
        given = {name: value for name, value in locals().items() if name in OPTIONS and value is not None}
        path = path_text("Solver.resume", "path", path)
        comm = given["comm"] = as_communicator("comm", comm)
        settings, state = comm.from_root(lambda: read_run(path, model))
        for name, value in settings.items():
            if is_own(value) and name not in given:
                raise ValueError(f"{path}: the run's {name} was a function of its own; pass it as {name}")
        num_train = len(checked_data(data, labels=False, outputs=outputs_of(model))[0])
        if num_train != state["num_train"]:
            raise ValueError(
                f"{path}: the run had {state['num_train']} training samples, data has {num_train}"
            )
        settings["checkpoint_name"] = checkpoint_prefix(path) or settings.get("checkpoint_name")
        rule = build_early_stopping(given.get("early_stopping"))
        if settings.get("monitor") is None and "early_stopping" in given and not (rule and rule.monitor):
            settings["monitor"] = (settings.get("early_stopping") or {}).get("monitor")
        solver = cls(model, data, **{**settings, **given})
        solver.load_state(state)
        solver._known_end = settings["num_epochs"]
        return solver

    def state(self) -> dict[str, Any]:
        """Return a copy of the run's state: all that :meth:`load_state` needs to continue from here.

        Returns
        -------
        dict
            ``params`` and ``bn_params`` (after the newest iteration), counters, histories, the best
            parameters, averages, the optimizer's state, random streams, what is left of an epoch that is
            under way: what :func:`cnnlib.checkpoint.save_checkpoint` can store.
        """
        record = self._record
        state = {
            **(snapshot(self.model) if self._last is None else self._last),
            "epoch": record.epoch,
            "best_val_acc": record.at_best("accuracy") or 0.0,
            "best_epoch": record.best_epoch,
            **parts_of(record.histories),
            "num_train": len(self.X_train),
            "best": record.best,
            "average": None if self._averages is None else self._averages.state,
            "augment_seed": self._augment_seed,
            "optim_configs": self._updater.configs,
            "random_state": self._resumed_random_state or random_state(self._random),
            "model_random_state": random_state(getattr(self.model, "rng", None)),
            "pending": self._pending,
            "seconds": self._seconds,
            "patience_from": record.patience_from,
        }
        return copy.deepcopy(state)

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore a :meth:`state`, and the parameters of its model.

        With the same data and settings, ``train()`` then goes on to the same bits.

        Raises
        ------
        ValueError
            If it is no state, or one of another model, number of training samples or metrics; nothing has
            changed then.
        """
        check_state("load_state", state, self.model)
        if state["num_train"] != len(self.X_train):
            raise ValueError(
                f"load_state: the run had {state['num_train']} training samples, this one {len(self.X_train)}"
            )
        if (state["average"] is None) != (self._averages is None):
            raise ValueError("load_state: one run has averages (ema_decay, lookahead), the other none")
        record = self._record
        if set(state.get("metrics", {})) != record.histories.keys() - HISTORIES.values():
            raise ValueError(
                f"load_state: the run measured {', '.join(state.get('metrics', {})) or 'the accuracy'}, "
                f"this one measures {', '.join(record.checked)}"
            )
        state = copy.deepcopy(dict(state))
        restore(self.model, state)
        record.epoch, record.best_epoch, record.best = state["epoch"], state["best_epoch"], state["best"]
        for name, history in histories_of(state, record.histories).items():
            record.histories[name][:] = history
        record.patience_from = state["patience_from"]
        self._last = None
        if self._averages is not None:
            self._averages.state = state["average"]
        self._augment_seed = state["augment_seed"]
        self._updater.configs = state["optim_configs"]
        self._pending, self._seconds = state["pending"], state["seconds"]
        if self.seed is None:
            self._resumed_random_state = state["random_state"]
        else:
            set_random_state(self._random, state["random_state"])
        if state["model_random_state"] is not None:
            set_random_state(getattr(self.model, "rng", None), state["model_random_state"])

    def _settings(self) -> dict[str, Any]:
        """What a checkpoint says of the options."""
        return {
            name: option.saved(getattr(self, name))
            for name, option in OPTIONS.items()
            if option.saved is not None
        }
