"""The Solver: minibatch gradient descent with accuracy checks, checkpoints and exact resumption."""

from __future__ import annotations

import contextlib
import copy
import functools
import math
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cnnlib._params import positive_int
from cnnlib._random import random_stream
from cnnlib._typing import Params, Trainable
from cnnlib.augment import Samples, augmented, averaged_scores
from cnnlib.data.normalization import Normalization
from cnnlib.data.shards import ShardedArray
from cnnlib.distributed.communicator import MPIComm, SerialComm, as_communicator
from cnnlib.distributed.failures import on_all_ranks
from cnnlib.inference.scoring import scorer
from cnnlib.solver.averages import build_averages, held
from cnnlib.solver.data_parallel import DataParallel
from cnnlib.solver.diagnosis import fault_of_images, fault_of_params
from cnnlib.solver.early_stopping import EarlyStopping, monitored
from cnnlib.solver.evaluation import check_batch_size, evaluate, sample_images
from cnnlib.solver.interrupts import Interrupts, undone
from cnnlib.solver.minibatches import (
    checked_data,
    checked_split,
    epoch_batches,
    iterations_per_epoch,
    prefetched,
    subsample,
)
from cnnlib.solver.model_state import check_model, check_sample_shapes, restore, set_label_smoothing, snapshot
from cnnlib.solver.options import OPTIONS, check_options, is_own, refuse_unknown
from cnnlib.solver.progress import Progress
from cnnlib.solver.random_streams import drawing_from, put_back, random_state, set_random_state
from cnnlib.solver.run_file import checkpoint_prefix, read_run, save_interrupted, save_run
from cnnlib.solver.run_state import COUNTERS, HISTORIES, check_state
from cnnlib.solver.update import Updater, checked_gradients
from cnnlib.typing import Augment, OptimConfig, Schedule

__all__ = ["Solver"]

_UPDATE = (
    "update_rule",
    "optim_config",
    "lr_decay",
    "schedule",
    "weight_decay",
    "clip_norm",
    "rate_factors",
)


class Solver:
    """Trains a model (any object as in :mod:`cnnlib.models`) and records losses and accuracies.

    Parameters
    ----------
    model : object with ``params`` and ``loss(X, y=None)``
    data : dict
        ``X_train`` (N, ...), ``y_train`` (N,), ``X_val``, ``y_val``; integer labels. Never copied as a whole:
        each minibatch is gathered by itself, so memory maps (``np.load(..., mmap_mode='r')``) work, and
        several of them as a :class:`cnnlib.data.ShardedArray`.
    update_rule : str or callable
        A name in :mod:`cnnlib.optim`, or any ``rule(w, dw, config) -> (next_w, config)``.
    optim_config : dict or None
        The rule's hyperparameters, e.g. ``{'learning_rate': 1e-3}``.
    lr_decay : float
        Factor on the learning rate after each epoch.
    schedule : str, dict, callable or None
        A learning-rate schedule of :mod:`cnnlib.schedules` instead, at every iteration.
    rate_factors : dict or None
        Factors on the learning rate of some parameters, say ``{'beta': 64}`` for all of ``beta1 beta2 ...``,
        or ``{'W3': 0.1}`` for one.
    weight_decay : float or None
        Decoupled weight decay (Loshchilov and Hutter 2017, arXiv:1711.05101): before each update ``w -=
        learning_rate * weight_decay * w`` for every parameter of two or more dimensions, so neither
        biases nor norms' scales. With 'adamw' it replaces that rule's own, which decays all parameters.
        (The models' ``reg`` is the other kind, a term of the loss.)
    clip_norm : float or None
        Gradients whose joint Euclidean norm is larger are scaled down to it.
    label_smoothing : float or None
        Sets the model's ``label_smoothing``, in [0, 1); None leaves it alone.
    ema_decay : float or None
        Keep an exponential moving average of parameters and batch-norm statistics, ``average =
        d * average + (1 - d) * new`` after each iteration t = 1, 2, ... with ``d = min(ema_decay,
        (1 + t) / (10 + t))``. Accuracies are then the average's, and so are the best parameters.
    lookahead : dict or None
        ``{'steps': 5, 'decay': 0.95, 'power': 3}``: keep slow weights, and after every `steps` iterations
        let ``slow = d * slow + (1 - d) * new`` and go on from ``new = slow`` (Zhang et al. 2019,
        arXiv:1907.08610), where ``d = decay**steps * (t / T)**power`` grows with the iterations t of all T
        (Jordan 2024, arXiv:2404.00498). Batch-norm statistics take part. Accuracies are the slow weights'.
    preprocess : callable, dict or None
        What images go through before the model sees them, minibatch by minibatch, so that the data may stay
        as they are: a :class:`cnnlib.data.Normalization` of uint8 images, or any function from images to
        images. It comes before `augment`, and also for the images given to :meth:`check_accuracy`.
    augment : str, dict, callable, list of these, or None
        Changes of the training minibatches, see :mod:`cnnlib.augment`. Their randomness comes from a
        stream for each iteration, whose seed the Solver draws once.
    prefetch : int
        Minibatches that a thread prepares ahead of the training where that pays: with `augment`, and
        from memory maps. 0: no thread. The results are the same.
    batch_size, num_epochs : int
    num_train_samples, num_val_samples : int or None
        Samples (a random subset) that an epoch's accuracy check looks at; None for all of the split.
    keep : 'best' or 'last'
        Which epoch's parameters count as the best ones: that of the highest validation accuracy (of the
        least validation loss, where `early_stopping` monitors that), or the newest. (With a learning rate
        that ends near 0 the last are the best, and choosing by a small validation set only adds noise.)
    early_stopping : int, dict or None
        End the training after so many epochs in a row without a better validation accuracy. Or ``{'patience':
        5, 'monitor': 'val_loss', 'min_delta': 0.001}``: without a validation loss that is lower by more than
        `min_delta`; 'val_acc' is the accuracy. What it monitors also decides which epoch is the best one.
        None or False: never.
    print_every : int
        Iterations between two reports of the loss.
    verbose : bool
        Show a progress bar, or lines where no bar can be drawn; False: show nothing.
    checkpoint_name : str, path or None
        ``'folder/name'`` makes every epoch K leave ``folder/name_epoch_K.npz``, in the format of
        :mod:`cnnlib.checkpoint`.
    seed : int or None
        Makes the run repeatable and leaves NumPy's global random state alone: shuffling, subsets, and what
        the model draws during the run come from a stream of the Solver's own. (A model gets it as its
        ``rng``, see :mod:`cnnlib.models`; for one that has none it stands in for ``np.random``.)
        None: all of it comes from ``np.random``, so that ``np.random.seed`` governs.
    sampling : 'epoch' or 'replacement'
        'epoch': each epoch visits every sample once, in a new order, in ``ceil(N / batch_size)``
        minibatches whose sizes differ by at most one. 'replacement': ``max(N // batch_size, 1)``
        minibatches of ``batch_size`` samples drawn independently, as in the course.
    on_epoch : callable or None
        Called with the Solver after each epoch, when its accuracies are known and its checkpoint is
        written. If it returns True, the training ends there as if that epoch had been the last (early
        stopping); if it raises, as :meth:`train` describes. The Solver's random stream (``np.random``
        without a seed) is put back behind it, so that a resumed run goes the same way whatever it draws, by
        :meth:`check_accuracy` say. With several ranks each calls its own, and rank 0's result counts.
    comm : communicator or None
        Data-parallel training: an mpi4py communicator, or :func:`cnnlib.distributed.world`. Each rank
        makes a Solver with the same arguments and takes its share of every minibatch (`batch_size` is
        that of all ranks together); gradients, loss, running statistics and accuracies are averaged, so
        all ranks hold the same model. Rank 0 gives the initial state, shows progress and writes the
        checkpoints; the number of ranks may change when a run goes on. See docs/distributed.md.
    micro_batches : int or None
        Cut each minibatch into so many parts (fewer if it has fewer samples), compute their gradients one by
        one and add them up in their order. The result is then the same bits at any number of ranks up to
        this, one process included. Batch norm and dropout see a part at a time.
    batchnorm_statistics : 'local' or 'global'
        Whether batch norm normalises with the statistics of a rank's share, or of the whole minibatch (a
        ConvNet's only; the ranks wait for each other in every such layer). One process: the same.

    Attributes
    ----------
    loss_history : list of float
        An entry for each iteration.
    train_acc_history, val_acc_history : list of float
        An entry before the first epoch and one after each.
    val_loss_history : list of float
        The same of the validation loss: the mean cross-entropy of the softmax of the scores in test mode,
        without regularisation and label smoothing. (NaN for epochs that an older checkpoint tells of.)
    epoch : int
        Epochs completed.
    learning_rate_history : list of float
        The learning rate of each epoch's last iteration (NaN if a rule of the user's own has none).
    epoch_seconds : list of float
        Wall-clock seconds of each epoch's iterations, without the accuracy checks.
    best_epoch, best_params, best_val_acc
        The best epoch so far (see `keep`), the parameters it ended with, and its validation accuracy. Of
        equal epochs the earliest counts, but a trained model rather than the untrained one. Batch-norm
        statistics are kept along.
    last_params : dict
        The parameters after the newest iteration (themselves, not their average).
    optim_configs : dict
        The rule's config and state for each parameter.

    Raises
    ------
    ValueError, TypeError
        For unusable data, an unknown update rule (with the nearest known one), settings out of range, and
        minibatches with fewer samples than there are ranks.
    OutOfStepError
        On every rank, if the ranks' models, data, options or versions differ.

    Examples
    --------
    >>> from cnnlib.data import load_digits
    >>> from cnnlib.models import FullyConnectedNet
    >>> model = FullyConnectedNet([100], input_dim=(1, 8, 8), weight_scale=0.1, seed=0)
    >>> rate = {"learning_rate": 0.01}
    >>> solver = Solver(
    ...     model, load_digits(), update_rule="adam", optim_config=rate, num_epochs=3, verbose=False, seed=0
    ... )
    >>> solver.train()
    >>> solver.best_val_acc > 0.9, len(solver.val_acc_history)
    (True, 4)
    """

    # The options, each under its own name: `__init__` sets them all at once.
    update_rule: Callable[..., Any]
    optim_config: dict[str, Any]
    lr_decay: float
    schedule: Callable[[float, float], float] | None
    rate_factors: dict[str, float] | None
    weight_decay: float | None
    clip_norm: float | None
    label_smoothing: float | None
    ema_decay: float | None
    lookahead: dict[str, Any] | None
    preprocess: Callable[..., Any] | None
    augment: Callable[..., Any] | None
    prefetch: int
    batch_size: int
    num_epochs: int
    num_train_samples: int | None
    num_val_samples: int | None
    keep: str
    early_stopping: EarlyStopping | None
    print_every: int
    verbose: bool
    checkpoint_name: str | None
    seed: int | None
    sampling: str
    comm: SerialComm | MPIComm
    micro_batches: int | None
    batchnorm_statistics: str
    on_epoch: Callable[[Solver], Any] | None
    X_train: NDArray[Any] | ShardedArray
    y_train: NDArray[Any]
    X_val: NDArray[Any] | ShardedArray
    y_val: NDArray[Any]

    def __init__(
        self,
        model: Trainable,
        data: Mapping[str, Any],
        *,
        update_rule: str | Callable[..., Any] = "sgd",
        optim_config: OptimConfig | None = None,
        lr_decay: float = 1.0,
        schedule: Schedule | None = None,
        rate_factors: Mapping[str, float] | None = None,
        weight_decay: float | None = None,
        clip_norm: float | None = None,
        label_smoothing: float | None = None,
        ema_decay: float | None = None,
        lookahead: Mapping[str, float] | None = None,
        preprocess: Mapping[str, Any] | Callable[..., Any] | None = None,
        augment: Augment | None = None,
        prefetch: int = 2,
        batch_size: int = 100,
        num_epochs: int = 10,
        num_train_samples: int | None = 1000,
        num_val_samples: int | None = None,
        keep: str = "best",
        early_stopping: int | Mapping[str, Any] | None = None,
        print_every: int = 10,
        verbose: bool = True,
        checkpoint_name: str | os.PathLike[str] | None = None,
        seed: int | None = None,
        sampling: str = "epoch",
        on_epoch: Callable[[Solver], Any] | None = None,
        comm: Any = None,
        micro_batches: int | None = None,
        batchnorm_statistics: str = "local",
        **unknown: NoReturn,
    ) -> None:
        refuse_unknown(unknown)
        settings = check_options(locals())
        check_model("Solver", model)
        self.model: Any = model
        self.X_train, self.y_train, self.X_val, self.y_val = checked_data(data)
        if settings["preprocess"] is None or isinstance(settings["preprocess"], Normalization):
            check_sample_shapes(model, X_train=self.X_train, X_val=self.X_val)
        vars(self).update(settings)  # each under its own name
        if hasattr(model, "initialize"):
            model.initialize(sample_images(self.X_train, self.preprocess))
        set_label_smoothing(model, self.label_smoothing)
        self._frozen = tuple(getattr(model, "frozen", ()))
        self._updater = Updater(
            model.params, **{name: settings[name] for name in _UPDATE}, frozen=self._frozen
        )

        self.epoch = 0
        self.loss_history: list[float] = []
        self.train_acc_history: list[float] = []
        self.val_acc_history: list[float] = []
        self.val_loss_history: list[float] = []
        self.learning_rate_history: list[float] = []
        self.epoch_seconds: list[float] = []
        self.best_val_acc, self.best_epoch = 0.0, 0
        self._averages = build_averages(model, self.ema_decay, self.lookahead)
        self._best: Any = None  # a snapshot, and so is
        self._last: Any = None  # which is set while the model holds the best parameters
        self._random = random_stream(self.seed, "Solver")
        self._augment_seed: int | None = None  # drawn when the training starts
        self._resumed_random_state = None  # np.random's, to be put back when training goes on
        self._pending = None  # minibatches left of the epoch that is under way
        self._seconds = 0.0  # spent on that epoch so far
        self._known_end = self.num_epochs  # of the training so far; a higher `num_epochs` has been raised
        self._patience_from = 0  # the epoch from which `early_stopping` counts
        self._interrupts = Interrupts()
        self._parallel = DataParallel(self)

    def __repr__(self) -> str:
        rule = self._updater.rule_name or getattr(self.update_rule, "__name__", "own")
        parts = [
            repr(self.model),
            f"update_rule={rule!r}",
            f"batch_size={self.batch_size}",
            f"{len(self.X_train):,} training samples",
            f"epoch {self.epoch} of {self.num_epochs}",
        ]
        if self.val_acc_history:
            parts.append(f"best_val_acc={self.best_val_acc:.4g}")
        return f"Solver({', '.join(parts)})"

    @property
    def optim_configs(self) -> dict[str, dict[str, Any]]:
        return self._updater.configs

    @property
    def best_params(self) -> Params:
        return {} if self._best is None else self._best["params"]

    @property
    def last_params(self) -> Params:
        return dict(self.model.params) if self._last is None else self._last["params"]

    @property
    def iterations_per_epoch(self) -> int:
        return iterations_per_epoch(len(self.X_train), self.batch_size, self.sampling)

    def train(self) -> None:
        """Train until `num_epochs` epochs are complete; the model then holds the best parameters.

        An exception leaves the model with the parameters of the newest iteration, and the checkpoints as
        they are; calling ``train()`` again goes on with the next minibatch. Ctrl-C undoes the iteration that
        it falls into, except within the update, which is completed first (a second Ctrl-C stops that too).
        With `checkpoint_name`, and one process, it leaves ``folder/name_interrupted.npz``, from which
        :meth:`resume` goes on to the same bits as the uninterrupted run; the next epoch's checkpoint
        replaces it. The same holds for SIGTERM in a program whose handler raises a KeyboardInterrupt.
        After the end, a raised ``num_epochs`` and another call go on from the last parameters, not from the
        best. Where `early_stopping` made that end, it counts its epochs anew from there.

        Raises
        ------
        FloatingPointError
            If a loss is NaN or infinite; the message names the iteration. The parameters stay as they
            were before it. With several ranks all raise it.
        OSError
            If a checkpoint cannot be written; on all ranks. (What one rank alone raises ends the whole job.)
        OutOfStepError
            On every rank, if the ranks do not train the same.
        """
        with self.comm.guard(), self._parallel.batch_norms(self.model):
            self._parallel.start(self)
            if self.comm.size > 1:  # whose ranks must not stop at different iterations
                self._train()
                return
            with self._interrupts:
                try:
                    self._train()
                except KeyboardInterrupt:
                    self._save_interrupted()
                    raise

    def _save_interrupted(self):
        """Write a checkpoint from within an epoch, unless the newest one says as much."""
        begun = self._pending is not None and self._best is not None
        if begun and self._interrupts.clean and self.checkpoint_name is not None:
            save_interrupted(self)

    def _train(self):
        if self._resumed_random_state is not None:
            set_random_state(self._random, self._resumed_random_state)
            self._resumed_random_state = None
        if self._last is not None:
            restore(self.model, self._last)
            self._last = None
        total = self.num_epochs * self.iterations_per_epoch
        verbose = self.verbose and self._parallel.main
        with Progress(total, len(self.loss_history), self.print_every, verbose) as progress:
            if self.augment is not None and self._augment_seed is None:
                self._augment_seed = int(self._random.randint(2**31))
            if not self.val_acc_history:
                self._record_accuracy(progress)
            if self.num_epochs > self._known_end and self._unimproved()[0]:
                self._patience_from = self.epoch
            self._known_end = self.num_epochs
            stopped = self._parallel.agree(self._stops_early(progress))
            while self.epoch < self.num_epochs and not stopped:
                stopped = self._train_epoch(progress) or self._parallel.agree(self._stops_early(progress))
        self._last = snapshot(self.model)
        restore(self.model, self._best)

    def check_accuracy(
        self,
        X: ArrayLike,
        y: ArrayLike,
        num_samples: int | None = None,
        batch_size: int = 100,
        tta: str | None = None,
    ) -> float:
        """Return the share of samples X (N, ...) that are classified as their label y (N,), in 0..1.

        The model runs in test mode, on images that went through `preprocess`. With `num_samples` below N a
        random subset of that size is looked at; `batch_size` bounds the memory in use. With `tta` the scores
        are averaged over several views of each image, see :func:`cnnlib.augment.averaged_scores`. With
        several ranks each may call this by itself: nothing is shared.
        """
        images, labels = checked_split("check_accuracy", X, y)
        if num_samples is not None:
            num_samples = positive_int("check_accuracy", "num_samples", num_samples)
        batch_size = positive_int("check_accuracy", "batch_size", batch_size)
        return self._evaluate(images, labels, num_samples, batch_size, tta)[0]

    def _evaluate(self, X, y, num_samples, batch_size=None, tta=None):
        """Accuracy and loss of the samples, or of a random subset."""
        batch_size = batch_size or check_batch_size(X, self.batch_size)
        scores = scorer(self.model)

        def scores_of(images):
            if self.preprocess is not None:
                images = self.preprocess(images)
            with self._drawing(), self._interrupts.allowed():
                return averaged_scores(scores, images, tta)

        return evaluate(scores_of, X, y, subsample(X, num_samples, self._random), batch_size)

    @classmethod
    def resume(
        cls,
        path: str | os.PathLike[str],
        model: Trainable,
        data: Mapping[str, Any],
        *,
        num_epochs: int | None = None,
        update_rule: Callable[..., Any] | None = None,
        schedule: Schedule | None = None,
        preprocess: Callable[..., Any] | None = None,
        augment: Augment | None = None,
        early_stopping: int | Mapping[str, Any] | None = None,
        print_every: int | None = None,
        verbose: bool | None = None,
        checkpoint_name: str | os.PathLike[str] | None = None,
        on_epoch: Callable[[Solver], Any] | None = None,
        comm: Any = None,
    ) -> Solver:
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
        update_rule, schedule, preprocess, augment : callable or None
            Needed where the run's was a function of the user's own.
        early_stopping : int, dict, False or None
            Another rule for the run's end, False for none; None keeps the run's own.
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
        path = os.fspath(path)
        comm = given["comm"] = as_communicator("comm", comm)
        settings, state = comm.from_root(lambda: read_run(path, model))
        for name, value in settings.items():
            if is_own(value) and name not in given:
                raise ValueError(f"{path}: the run's {name} was a function of its own; pass it as {name}")
        num_train = len(checked_data(data)[0])
        if num_train != state["num_train"]:
            raise ValueError(
                f"{path}: the run had {state['num_train']} training samples, data has {num_train}"
            )
        settings["checkpoint_name"] = checkpoint_prefix(path) or settings.get("checkpoint_name")
        solver = cls(model, data, **{**settings, **given})
        solver.load_state(state)
        solver._known_end = settings.get("num_epochs", solver.num_epochs)
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
        state = {
            **(snapshot(self.model) if self._last is None else self._last),
            **{name: getattr(self, name) for name in COUNTERS},
            **{name: np.array(getattr(self, name), dtype=np.float64) for name in HISTORIES},
            "num_train": len(self.X_train),
            "best": self._best,
            "average": None if self._averages is None else self._averages.state,
            "augment_seed": self._augment_seed,
            "optim_configs": self.optim_configs,
            "random_state": self._resumed_random_state or random_state(self._random),
            "model_random_state": random_state(getattr(self.model, "rng", None)),
            "pending": self._pending,
            "seconds": self._seconds,
            "patience_from": self._patience_from,
        }
        return copy.deepcopy(state)

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore a :meth:`state`, and the parameters of its model.

        With the same data and settings, ``train()`` then goes on to the same bits.

        Raises
        ------
        ValueError
            If it is no state, or one of another model or number of training samples; nothing has changed
            then.
        """
        check_state("load_state", state, self.model)
        if state["num_train"] != len(self.X_train):
            raise ValueError(
                f"load_state: the run had {state['num_train']} training samples, this one {len(self.X_train)}"
            )
        if (state["average"] is None) != (self._averages is None):
            raise ValueError("load_state: one run has averages (ema_decay, lookahead), the other none")
        state = copy.deepcopy(state)
        restore(self.model, state)
        for name in COUNTERS:
            setattr(self, name, state[name])
        unknown = np.full(len(state["val_acc_history"]), math.nan)
        for name in HISTORIES:
            setattr(self, name, state.get(name, unknown).tolist())
        self._best, self._last = state["best"], None
        if self._averages is not None:
            self._averages.state = state["average"]
        self._augment_seed = state["augment_seed"]
        self._updater.configs = state["optim_configs"]
        self._pending, self._seconds = state.get("pending"), state.get("seconds", 0.0)
        self._patience_from = state.get("patience_from", 0)
        if self.seed is None:
            self._resumed_random_state = state["random_state"]
        else:
            set_random_state(self._random, state["random_state"])
        if state["model_random_state"] is not None:
            set_random_state(getattr(self.model, "rng", None), state["model_random_state"])

    # The training loop --------------------------------------------------------------------------------

    def _train_epoch(self, progress):
        """An epoch, or what is left of it; return whether the training should end behind it."""
        if self._pending is None:
            self._pending = epoch_batches(len(self.X_train), self.batch_size, self.sampling, self._random)
            self._pending.reverse()  # popped from the end
        done = len(self.loss_history)
        jobs = [
            functools.partial(self._minibatch, batch, done + i)
            for i, batch in enumerate(reversed(self._pending))
        ]
        threaded = self.augment is not None or isinstance(self.X_train, (np.memmap, ShardedArray))
        started = time.perf_counter()
        try:
            with contextlib.closing(prefetched(jobs, self.prefetch if threaded else 0)) as minibatches:
                while self._pending:
                    with self._interrupts.allowed():
                        X, y = next(minibatches)
                    self._step(X, y)
                    self._pending.pop()
                    progress.iteration(len(self.loss_history), self.loss_history[-1])
        finally:
            self._seconds += time.perf_counter() - started
        self._record_accuracy(progress)
        self._parallel.check_parameters(self)
        self.comm.from_root(self._save)
        return self._parallel.agree(self.on_epoch is not None and self._call_on_epoch() is True)

    def _save(self):
        if self.checkpoint_name is not None:
            save_run(self)

    def _call_on_epoch(self):
        """Call `on_epoch`, and put the random streams back behind it: the checkpoint was written before."""
        with put_back(self._streams()), self._interrupts.allowed():
            return self.on_epoch(self)

    def _streams(self):
        """What the training draws from."""
        return [self._random, getattr(self.model, "rng", None)]

    def _minibatch(self, batch, iteration):
        """Images and labels of this rank's share of a minibatch.

        Runs in the prefetching thread, so it changes no state.
        """
        rows = self._parallel.share(batch)
        X, y = self.X_train[rows], self.y_train[rows]
        if self.preprocess is not None:
            X = self.preprocess(X)
        if self.augment is not None:
            shape = X.shape
            rng = self._parallel.generator([self._augment_seed, iteration], len(batch))
            epoch = iteration // self.iterations_per_epoch
            X = augmented(self.augment, X, rng, Samples(rows, epoch, self._augment_seed))
            if np.shape(X) != shape:
                raise ValueError(f"Solver: augment made images of shape {np.shape(X)} from {shape}")
        return X, y

    def _step(self, X, y):
        """One iteration: the gradients of the newest minibatch, and an update of each parameter."""
        with undone(self.model, self._streams()):
            loss, grads = self._gradients(X, y)
        loss = float(loss)
        t = len(self.loss_history) + 1
        try:
            if not math.isfinite(loss):
                raise FloatingPointError(f"the loss is {loss}")
            grads = checked_gradients(self.model.params, grads, self._frozen)
            self._updater.step(self.model.params, grads, (t - 1) / self.iterations_per_epoch, self.num_epochs)
        except FloatingPointError as error:
            # Loss and gradients are those of all ranks, so all are here; the images are each rank's own.
            rows = self._parallel.share(self._pending[-1])
            advice = self._parallel.first_known(fault_of_images(X, self.X_train, rows))
            advice = advice or fault_of_params(self.model.params) or "a lower learning rate may help"
            message = f"iteration {t} (epoch {self.epoch + 1}): {error}; {advice}"
            raise on_all_ranks(FloatingPointError(message)) from None
        self.loss_history.append(loss)
        if self._averages is not None:
            self._averages.after_iteration(self.model, t, self.num_epochs * self.iterations_per_epoch)

    def _gradients(self, X, y):
        """Loss and gradients of the newest minibatch, of all ranks."""
        if self._parallel.plain:
            with self._drawing(), self._interrupts.allowed():
                return self.model.loss(X, y)
        with self._interrupts.allowed():
            return self._parallel.gradients(self, X, y, len(self._pending[-1]))

    def _record_accuracy(self, progress):
        """Check the accuracies at the start of the training or the end of an epoch; keep the best."""
        with undone(self.model, self._streams()), held(self._averages, self.model):
            train_acc, _ = self._shared_evaluation(self.X_train, self.y_train, self.num_train_samples)
            val_acc, val_loss = self._shared_evaluation(self.X_val, self.y_val, self.num_val_samples)
            better = self.keep == "last" or self._is_better(val_acc, val_loss)
            best = snapshot(self.model) if better else self._best
        if self._pending is not None:
            self._pending = None
            self.epoch += 1
            self.epoch_seconds.append(self._seconds)
            self._seconds = 0.0
            self.learning_rate_history.append(self._updater.end_epoch())
        self.train_acc_history.append(train_acc)
        self.val_acc_history.append(val_acc)
        self.val_loss_history.append(val_loss)
        if better:
            self.best_val_acc, self.best_epoch, self._best = val_acc, self.epoch, best
        progress.message(
            f"(Epoch {self.epoch} / {self.num_epochs}) train acc: {train_acc:.4f}; val_acc: {val_acc:.4f}; "
            f"val_loss: {val_loss:{'.4f' if val_loss < 1e5 else '.4g'}}"
        )

    def _shared_evaluation(self, X, y, num_samples):
        """:meth:`_evaluate`, its work shared by the ranks."""
        if self._parallel.plain:
            return self._evaluate(X, y, num_samples)
        with self._interrupts.allowed():
            return self._parallel.evaluate(self, X, y, num_samples, self._random)

    def _is_better(self, val_acc, val_loss):
        """Whether the model is better than the best one, which of equals is the earlier trained one."""
        if self._best is None:
            return True
        value = monitored(self.early_stopping, val_acc, val_loss)
        k = self.best_epoch
        best = monitored(self.early_stopping, self.val_acc_history[k], self.val_loss_history[k])
        return value > best or (k == 0 and value == best)

    def _unimproved(self):
        """Whether `early_stopping` ends the training here, and the epoch of the last improvement."""
        rule = self.early_stopping
        if rule is None:
            return False, self.epoch
        improved = rule.improved_in(self.val_acc_history, self.val_loss_history)
        return self.epoch - max(improved, self._patience_from) >= rule.patience, improved

    def _stops_early(self, progress):
        """Whether `early_stopping` ends the training here, which `progress` then tells."""
        stops, improved = self._unimproved()
        if stops:
            progress.message(f"(Epoch {self.epoch}) {self.early_stopping.message(improved)}")
        return stops

    def _drawing(self):
        """With a seed, let the model draw from the Solver's own stream."""
        return contextlib.nullcontext() if self.seed is None else drawing_from(self._random, self.model)
