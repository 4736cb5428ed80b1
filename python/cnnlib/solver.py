"""Training: minibatch gradient descent with accuracy checks, checkpoints and exact resumption."""

import contextlib
import copy
import difflib
import math
import os
import re
import time

import numpy as np

from cnnlib import optim
from cnnlib._batches import checked_data, checked_split, epoch_batches, iterations_per_epoch, subsample
from cnnlib._model_state import (
    check_model,
    check_state_fits,
    random_state,
    restore,
    set_random_state,
    snapshot,
)
from cnnlib._modeling import positive_int, random_stream
from cnnlib._params import integer, number
from cnnlib.checkpoint import load_checkpoint, save_checkpoint
from cnnlib.progress import Progress

__all__ = ["Solver", "load_weights"]


class Solver:
    """Trains a model (see :mod:`cnnlib.models` for what one is) and remembers how it went.

    Parameters
    ----------
    model : object with ``params`` and ``loss(X, y=None)``
    data : dict
        ``X_train`` (N, ...), ``y_train`` (N,), ``X_val``, ``y_val``; integer labels. Never copied as a whole:
        each minibatch is gathered by itself, so memory maps (``np.load(..., mmap_mode='r')``) work.
    update_rule : str or callable
        A name in :mod:`cnnlib.optim`, or any ``rule(w, dw, config) -> (next_w, config)``.
    optim_config : dict or None
        The rule's hyperparameters, e.g. ``{'learning_rate': 1e-3}``.
    lr_decay : float
        Factor on the learning rate after each epoch.
    batch_size, num_epochs : int
    num_train_samples, num_val_samples : int or None
        Samples (a random subset) that an epoch's accuracy check looks at; None for all of the split.
    print_every : int
        Iterations between two reports of the loss.
    verbose : bool
        Show a progress bar, or lines where no bar can be drawn; False: show nothing.
    checkpoint_name : str, path or None
        ``'folder/name'`` makes every epoch K leave ``folder/name_epoch_K.npz``, in the format of
        :mod:`cnnlib.checkpoint`.
    seed : int or None
        Makes the run repeatable and leaves NumPy's global random state alone: shuffling, subsets, and
        whatever the model draws from ``np.random`` during the run come from a stream of the Solver's own.
        None: all of it comes from ``np.random``, so that ``np.random.seed`` governs.
    sampling : 'epoch' or 'replacement'
        'epoch': each epoch visits every sample once, in a new order, in ``ceil(N / batch_size)``
        minibatches whose sizes differ by at most one. 'replacement': ``max(N // batch_size, 1)``
        minibatches of ``batch_size`` samples drawn independently, as in the course.
    on_epoch : callable or None
        Called with the Solver after each epoch, when its accuracies are known and its checkpoint is
        written. An exception raised in it (KeyboardInterrupt, say) ends the training there.

    Attributes
    ----------
    loss_history : list of float
        An entry for each iteration.
    train_acc_history, val_acc_history : list of float
        An entry before the first epoch and one after each.
    epoch : int
        Epochs completed.
    epoch_seconds : list of float
        Wall-clock seconds of each epoch's iterations, without the accuracy checks.
    best_val_acc, best_epoch, best_params
        The highest validation accuracy, the epoch that first reached it, and the parameters it had (of
        equals the earliest counts, but a trained model rather than the untrained one). Batch-norm
        statistics are kept along.
    last_params : dict
        The parameters after the newest iteration.
    optim_configs : dict
        The rule's config and state for each parameter.

    Raises
    ------
    ValueError, TypeError
        For unusable data, an unknown update rule (with the nearest known one), and settings out of range.
    """

    def __init__(
        self,
        model,
        data,
        *,
        update_rule="sgd",
        optim_config=None,
        lr_decay=1.0,
        batch_size=100,
        num_epochs=10,
        num_train_samples=1000,
        num_val_samples=None,
        print_every=10,
        verbose=True,
        checkpoint_name=None,
        seed=None,
        sampling="epoch",
        on_epoch=None,
    ):
        check_model("Solver", model)
        self.model = model
        self.X_train, self.y_train, self.X_val, self.y_val = checked_data(data)
        self.update_rule, self._rule_name = _resolve_rule(update_rule)
        self.optim_config = dict(optim_config or {})
        self.lr_decay = number("Solver", "lr_decay", lr_decay, 0)
        self.batch_size = positive_int("Solver", "batch_size", batch_size)
        self.num_epochs = _epochs(num_epochs)
        self.num_train_samples = _optional_count("num_train_samples", num_train_samples)
        self.num_val_samples = _optional_count("num_val_samples", num_val_samples)
        self.print_every = positive_int("Solver", "print_every", print_every)
        self.verbose = verbose
        self.checkpoint_name = None if checkpoint_name is None else os.fspath(checkpoint_name)
        self.seed = seed
        if sampling not in ("epoch", "replacement"):
            raise ValueError(f"Solver: sampling must be 'epoch' or 'replacement', got {sampling!r}")
        self.sampling = sampling
        if on_epoch is not None and not callable(on_epoch):
            raise TypeError(f"Solver: on_epoch must be callable, got {on_epoch!r}")
        self.on_epoch = on_epoch

        self.epoch = 0
        self.loss_history, self.train_acc_history, self.val_acc_history = [], [], []
        self.epoch_seconds = []
        self.best_val_acc, self.best_epoch = 0.0, 0
        self.optim_configs = {name: copy.deepcopy(self.optim_config) for name in model.params}
        self._best = self._last = None  # snapshots; _last is set while the model holds the best parameters
        self._random = random_stream(seed, "Solver")
        self._resumed_random_state = None  # np.random's, to be put back when training goes on
        self._pending = None  # minibatches left of the epoch that is under way
        self._seconds = 0.0  # spent on that epoch so far

    @property
    def best_params(self):
        return {} if self._best is None else self._best["params"]

    @property
    def last_params(self):
        return dict(self.model.params) if self._last is None else self._last["params"]

    @property
    def iterations_per_epoch(self):
        return iterations_per_epoch(len(self.X_train), self.batch_size, self.sampling)

    def train(self):
        """Train until `num_epochs` epochs are complete; the model then holds the best parameters.

        An exception (Ctrl-C too) leaves the model with the parameters of the newest iteration, and the
        checkpoints as they are; calling ``train()`` again goes on with the next minibatch. After the end,
        a raised ``num_epochs`` and another call go on from the last parameters, not from the best.

        Raises
        ------
        FloatingPointError
            If a loss is NaN or infinite; the message names the iteration. The parameters stay as they
            were before it.
        """
        if self._resumed_random_state is not None:
            set_random_state(self._random, self._resumed_random_state)
            self._resumed_random_state = None
        if self._last is not None:
            restore(self.model, self._last)
            self._last = None
        total = self.num_epochs * self.iterations_per_epoch
        with Progress(total, len(self.loss_history), self.print_every, self.verbose) as progress:
            if not self.val_acc_history:
                self._record_accuracy(progress)
            while self.epoch < self.num_epochs:
                self._train_epoch(progress)
        self._last = snapshot(self.model)
        restore(self.model, self._best)

    def check_accuracy(self, X, y, num_samples=None, batch_size=100):
        """Share of the samples X (N, ...) whose highest score is that of their label y (N,), in 0..1.

        The model runs in test mode. With `num_samples` below N a random subset of that size is looked at;
        `batch_size` bounds the memory in use.
        """
        X, y = checked_split("check_accuracy", X, y)
        num_samples = _optional_count("num_samples", num_samples)
        batch_size = positive_int("check_accuracy", "batch_size", batch_size)
        chosen = subsample(X, y, num_samples, self._random)
        total = len(X) if chosen is None else len(chosen)
        correct = 0
        for start in range(0, total, batch_size):
            rows = slice(start, start + batch_size) if chosen is None else chosen[start : start + batch_size]
            with self._stream():
                scores = self.model.loss(X[rows])
            correct += int(np.count_nonzero(np.argmax(scores, axis=1) == y[rows]))
        return correct / total

    @classmethod
    def resume(
        cls,
        path,
        model,
        data,
        *,
        num_epochs=None,
        update_rule=None,
        print_every=None,
        verbose=None,
        checkpoint_name=None,
        on_epoch=None,
    ):
        """A Solver that stands where the one that wrote the checkpoint `path` stood.

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
            Another end of the run; so a finished one can be continued.
        update_rule : callable or None
            Needed if the run's rule was a function of the user's own.
        print_every, verbose, checkpoint_name, on_epoch
            As in :class:`Solver`; None keeps the run's own settings. Checkpoints go on beside `path`.

        Raises
        ------
        ValueError
            If the file is damaged, no checkpoint of a Solver, or from another model or number of training
            samples; the message names it, and the model is left alone.
        OSError
            If it cannot be read.
        """
        path = os.fspath(path)
        settings, run, current = _read_run(path, model)
        if update_rule is not None:
            settings["update_rule"] = update_rule
        elif settings["update_rule"] is None:
            raise ValueError(
                f"{path}: the run's update rule was a function of its own; pass it as update_rule"
            )
        changes = {"num_epochs": num_epochs, "print_every": print_every, "verbose": verbose}
        settings.update({name: value for name, value in changes.items() if value is not None})
        settings["checkpoint_name"] = checkpoint_name or _checkpoint_name(path) or settings["checkpoint_name"]
        solver = cls(model, data, **settings, on_epoch=on_epoch)
        if len(solver.X_train) != run["num_train"]:
            raise ValueError(
                f"{path}: the run had {run['num_train']} training samples, data has {len(solver.X_train)}"
            )
        restore(model, current)
        solver._set_run(run)
        return solver

    # The training loop --------------------------------------------------------------------------------

    def _train_epoch(self, progress):
        if self._pending is None:
            self._pending = epoch_batches(len(self.X_train), self.batch_size, self.sampling, self._random)
            self._pending.reverse()  # popped from the end
        started = time.perf_counter()
        try:
            while self._pending:
                self._step(self._pending[-1])
                self._pending.pop()
                progress.iteration(len(self.loss_history), self.loss_history[-1])
        finally:
            self._seconds += time.perf_counter() - started
        self._record_accuracy(progress)
        if self.checkpoint_name is not None:
            self._save_checkpoint()
        if self.on_epoch is not None:
            self.on_epoch(self)

    def _step(self, batch):
        """One iteration: the gradients of a minibatch, and an update of each parameter."""
        with self._stream():
            loss, grads = self.model.loss(self.X_train[batch], self.y_train[batch])
        loss = float(loss)
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss of iteration {len(self.loss_history) + 1} (epoch {self.epoch + 1}) is {loss}; "
                "a lower learning rate may help"
            )
        for name, w in list(self.model.params.items()):
            dw = grads.get(name)
            if np.shape(dw) != w.shape:
                came = "is missing" if dw is None else f"has shape {np.shape(dw)}"
                raise ValueError(f"Solver: the model's gradient of {name} {came}, expected shape {w.shape}")
            next_w, config = self.update_rule(w, dw, self.optim_configs[name])
            self.model.params[name], self.optim_configs[name] = next_w, config
        self.loss_history.append(loss)

    def _record_accuracy(self, progress):
        """Check the accuracies at the start of the training or the end of an epoch; keep the best."""
        train_acc = self.check_accuracy(self.X_train, self.y_train, self.num_train_samples)
        val_acc = self.check_accuracy(self.X_val, self.y_val, self.num_val_samples)
        if self._pending is not None:
            self._pending = None
            self.epoch += 1
            self.epoch_seconds.append(self._seconds)
            self._seconds = 0.0
            self._decay_learning_rate()
        self.train_acc_history.append(train_acc)
        self.val_acc_history.append(val_acc)
        untrained = self._best is None or self.best_epoch == 0
        if val_acc > self.best_val_acc or (untrained and val_acc == self.best_val_acc):
            self.best_val_acc, self.best_epoch, self._best = val_acc, self.epoch, snapshot(self.model)
        progress.message(
            f"(Epoch {self.epoch} / {self.num_epochs}) train acc: {train_acc:.4f}; val_acc: {val_acc:.4f}"
        )

    def _decay_learning_rate(self):
        if self.lr_decay == 1:
            return
        for name, config in self.optim_configs.items():
            if "learning_rate" not in config:
                raise ValueError(
                    f"Solver: lr_decay needs a learning_rate in the update rule's config of {name}"
                )
            config["learning_rate"] *= self.lr_decay

    @contextlib.contextmanager
    def _stream(self):
        """With a seed, let the Solver's own stream stand in for that of ``np.random``."""
        if self.seed is None:
            yield
            return
        outside = np.random.get_state(legacy=False)
        np.random.set_state(self._random.get_state(legacy=False))
        try:
            yield
        finally:
            self._random.set_state(np.random.get_state(legacy=False))
            np.random.set_state(outside)

    # The checkpoint -----------------------------------------------------------------------------------

    def _save_checkpoint(self):
        settings = {name: getattr(self, name) for name in _SETTINGS}
        settings |= {"update_rule": self._rule_name, "verbose": bool(self.verbose)}
        settings["seed"] = None if self.seed is None else int(self.seed)
        run = {name: getattr(self, name) for name in _COUNTERS}
        run |= {name: np.array(getattr(self, name), dtype=np.float64) for name in _HISTORIES}
        run |= {
            "num_train": len(self.X_train),
            "bn_params": snapshot(self.model)["bn_params"],
            "best": self._best,
            "optim_configs": self.optim_configs,
            "random_state": random_state(self._random),
            "model_random_state": random_state(getattr(self.model, "rng", None)),
        }
        path = f"{self.checkpoint_name}_epoch_{self.epoch}.npz"
        save_checkpoint(path, self.model.params, {"settings": settings, "run": run})

    def _set_run(self, run):
        """The inverse of the above, for all but the settings and the model's arrays."""
        for name in _COUNTERS:
            setattr(self, name, run[name])
        for name in _HISTORIES:
            setattr(self, name, run[name].tolist())
        self._best = run["best"]
        self.optim_configs = run["optim_configs"]
        if self.seed is None:
            self._resumed_random_state = run["random_state"]
        else:
            set_random_state(self._random, run["random_state"])
        if run["model_random_state"] is not None:
            set_random_state(getattr(self.model, "rng", None), run["model_random_state"])


def load_weights(path, model, which="best"):
    """Give `model` the parameters and batch-norm statistics in a Solver's checkpoint.

    Parameters
    ----------
    path : str or path
    model : object
        With the same parameters (names, shapes, dtypes) as the one that was saved.
    which : 'best' or 'last'
        Those of the best epoch so far, or of the epoch after which the file was written.

    Raises
    ------
    ValueError
        If the file is damaged, foreign or from another model; the message names it.
    OSError
        If it cannot be read.
    """
    if which not in ("best", "last"):
        raise ValueError(f"load_weights: which must be 'best' or 'last', got {which!r}")
    check_model("load_weights", model)
    _, run, current = _read_run(os.fspath(path), model)
    restore(model, run["best"] if which == "best" else current)


_COUNTERS = ("epoch", "best_val_acc", "best_epoch")
_HISTORIES = ("loss_history", "train_acc_history", "val_acc_history", "epoch_seconds")
_SETTINGS = (
    "optim_config",
    "lr_decay",
    "batch_size",
    "num_epochs",
    "num_train_samples",
    "num_val_samples",
    "print_every",
    "checkpoint_name",
    "sampling",
)


def _read_run(path, model):
    """Settings, state and current snapshot in the checkpoint `path`, checked against the model."""
    params, state = load_checkpoint(path)
    try:
        settings, run = state["settings"], state["run"]
        current = {"params": params, "bn_params": run["bn_params"]}
        missing = {*_COUNTERS, *_HISTORIES, "num_train", "optim_configs", "random_state"} - set(run)
        if missing or "update_rule" not in settings:
            raise KeyError(*missing)
        best = run["best"]
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path} is no checkpoint of a Solver: {error!r}") from error
    for saved in (current, best):
        check_state_fits(path, model, saved)
    return settings, run, current


def _checkpoint_name(path):
    """`folder/name` of `folder/name_epoch_K.npz`; None for a file that was given another name."""
    match = re.fullmatch(r"(.+)_epoch_\d+\.npz", path, re.DOTALL)
    return match and match[1]


def _resolve_rule(update_rule):
    """The rule's function, and its name if it is one of cnnlib.optim's (a checkpoint holds names only)."""
    rules = {name: getattr(optim, name) for name in optim.__all__}
    if isinstance(update_rule, str):
        if update_rule not in rules:
            near = difflib.get_close_matches(update_rule, rules, n=1, cutoff=0)[0]
            raise ValueError(f"Solver: unknown update_rule {update_rule!r}; did you mean {near!r}?")
        return rules[update_rule], update_rule
    if not callable(update_rule):
        raise TypeError(
            f"Solver: update_rule must be a name in cnnlib.optim or callable, got {update_rule!r}"
        )
    return update_rule, next((name for name, rule in rules.items() if rule is update_rule), None)


def _epochs(num_epochs):
    """An integer of at least 0: with 0 epochs only the accuracies are checked."""
    value = integer("Solver", "num_epochs", num_epochs)
    if value < 0:
        raise ValueError(f"Solver: num_epochs must be at least 0, got {value}")
    return value


def _optional_count(name, value):
    return None if value is None else positive_int("Solver", name, value)
