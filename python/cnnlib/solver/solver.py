"""The Solver: minibatch gradient descent with accuracy checks, checkpoints and exact resumption.

A Solver has options (:mod:`cnnlib.solver.options`), a state, which is all else that a checkpoint holds
(:mod:`cnnlib.solver.state`), and a worker (:mod:`cnnlib.solver.worker`), which computes gradients and
measures, in one process or on many ranks. Read :meth:`Solver.train` first.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from cnnlib._params import above_0, at_least, is_flag, path_text, positive_int, type_name
from cnnlib._params.elsewhere import missing
from cnnlib._params.random import put_back, random_stream, set_random_state
from cnnlib._system.ahead import in_order
from cnnlib._typing import Gradients, Params, Trainable
from cnnlib.augment import Samples, augmented
from cnnlib.data.normalization import Normalization
from cnnlib.distributed.communicator import as_communicator
from cnnlib.inference.scoring import BatchScorer
from cnnlib.models.graph_model import GraphModel
from cnnlib.models.state import (
    check_model,
    check_sample_shapes,
    checked_frozen,
    restore,
    set_label_smoothing,
    set_precision,
    snapshot,
    undone_on_error,
)
from cnnlib.solver.checkpoints import checkpoint_prefix, read_run, save_run
from cnnlib.solver.data import checked_split
from cnnlib.solver.evaluation import (
    ValidationLoss,
    check_batch_size,
    chosen_loss,
    chosen_metrics,
    learns_labels,
    learns_numbers,
    outputs_of,
    refuse_odd_targets,
    refuse_own_loss,
    sample_images,
)
from cnnlib.solver.histories import Histories, metrics_of, new_histories, train_name, val_name
from cnnlib.solver.interrupts import Interrupts
from cnnlib.solver.metrics import Accuracy, Metric
from cnnlib.solver.monitor import build_early_stopping, build_monitor
from cnnlib.solver.options import Options, is_own, refuse_unknown
from cnnlib.solver.progress import Progress
from cnnlib.solver.rate_finder import LEAST_STEPS, RateCurve, find_rate
from cnnlib.solver.sources import (
    ArraySource,
    Minibatch,
    Source,
    Sources,
    Wanted,
    batches_of,
    build_sources,
    subsample,
)
from cnnlib.solver.state import TrainingState, check_content
from cnnlib.solver.step_profile import StepProfile, profile_step
from cnnlib.solver.update import (
    Updater,
    averaging,
    checked_gradients,
    fault_of_data,
    fault_of_params,
    fault_of_rows,
    holding,
)
from cnnlib.solver.weights import Weighted, class_weighted, sample_weighted
from cnnlib.solver.worker import build_worker
from cnnlib.typing import Augment, OptimConfig, Schedule

_Metric: TypeAlias = str | Mapping[str, Any] | Callable[..., Any]
Metrics: TypeAlias = _Metric | Sequence[_Metric]
_FINDERS_SEED = 0  # of the minibatches of lr_find, which are the same at every call
_PROFILED_SECONDS, _PROFILED_STEPS = 2.0, 20  # of a profile: at most about so long, and so many
_EACH_RANKS_OWN = ("checkpoint_name", "prefetch", "print_every", "verbose")  # options that may differ

_ELSEWHERE = {  # what other libraries' trainers have
    **dict.fromkeys(("fit", "run", "learn"), "solver.train() trains"),
    **dict.fromkeys(("history", "history_"), "solver.histories has all of them by name"),
    **dict.fromkeys(("score", "evaluate", "test"), "solver.check_accuracy(X, y) measures"),
    **dict.fromkeys(
        ("predict", "predict_proba"), "solver.model.predict(X), or cnnlib.prepare(solver.model), has it"
    ),
    **dict.fromkeys(("save", "load"), "solver.model.save(path) keeps the network"),
}


class Solver:
    """Trains a model (any object as in :mod:`cnnlib.models`) and records losses and metrics.

    Parameters
    ----------
    model : object with ``params`` and ``loss(X, y=None)``
    data : dict
        ``X_train`` (N, ...), ``y_train``, ``X_val``, ``y_val``. Targets are integer labels (N,), or with
        `loss` or `metrics` what these take: labels of pixels, numbers (N, ...) of any shape, (N,) too for a
        network of one output; for several
        outputs a dict of targets by the outputs' names, or a tuple in their order. ``weights_train`` (N,),
        optional, weighs the training samples: the loss is the mean of ``weight * loss`` by the sum of the
        weights. (Metrics and the validation loss count all samples alike.)

        Arrays are never copied as a whole: each minibatch is gathered by itself, so memory maps
        (``np.load(..., mmap_mode='r')``) work, several of them as a :class:`cnnlib.data.ShardedArray`, and
        arrays of h5py, Zarr and others that have `shape`, `dtype` and ``[...]``.

        Or ``train`` and ``val`` in place of arrays: batches ``(X, y)`` or ``(X, y, weights)`` of your own.
        They come from an object with ``len()`` and ``[number]``, whose batches are taken in a new order in
        each epoch; from an iterable, such as PyTorch's DataLoader; or from a function ``batches()`` or
        ``batches(epoch)`` (0 is the first) that returns an iterable. A run goes on from a checkpoint to the
        same bits with an object of the first kind, and with a function of the epoch, which must give the same
        batches for the same epoch. For other iterables :meth:`resume` says why not.
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
    loss : str, dict, callable or None
        What a model of :mod:`cnnlib.models` is trained with: a loss of :mod:`cnnlib.layers` by its name
        (``'mse'``), with settings (``{'name': 'huber', 'delta': 0.5}``), or any function ``loss(scores, y) ->
        (value, gradient of the scores)``. A model's own (its `criterion`, or all of its ``loss(X, y)`` where
        that takes no loss) wins; `loss` is then what validation samples are measured with.
        Several outputs: a dict of these by the outputs' names, or a :class:`cnnlib.models.WeightedLosses`.
        None: the model's own, of the library's models the cross-entropy of labels.
    class_weight : 'balanced', dict, list or None
        How much each class counts in the loss 'softmax': a list in the order of the labels, a dict by label
        (1 where it has none), or 'balanced', ``N / (K * count)`` for each of the K classes that occur.
    metrics : str, dict, callable, list of these, or None
        What is measured of training and validation samples before the first epoch and after each: by name
        'accuracy', 'top5', 'rmse', 'mae', 'r2', 'psnr' (``{'name': 'psnr', 'range': 255}``), 'iou', 'f1', see
        :mod:`cnnlib.solver.metrics`; or functions ``metric(scores, y) -> number``, which are given all
        scores at once. None: 'f1' where the loss is 'bce' or 'dice', 'rmse' where it is 'mse', 'l1' or
        'huber', or where targets are numbers, else 'accuracy'. Where the loss is 'cross_entropy', whose
        targets are probabilities, labels are the likeliest classes; a label that the loss ignores counts in
        none. Several outputs: a dict of these by the outputs' names; they are called ``output/metric``.
    monitor : str, dict or None
        The history of the validation by which epochs are compared, for `keep` and `early_stopping`:
        'val_loss', or 'val_accuracy' and the like of the metrics, which 'accuracy' stands for too. The name
        says whether more or less of it is better; for a function of your own say ``{'name': 'val_mine',
        'direction': 'min'}``. None: that of the first of the metrics; of several outputs 'val_loss'.
    label_smoothing : float or None
        Sets the model's ``label_smoothing``, in [0, 1), which counts where no `loss` is named; None leaves it
        alone.
    precision : 'bfloat16', 'float32', 'float64' or None
        Sets the `precision` of one of the library's models: what its training steps compute in. 'bfloat16' is
        for models of float32, whose parameters stay float32; else it is the model's dtype. None leaves it
        alone. Checkpoints keep the model's, and :meth:`resume` sets it.
    ema_decay : float or None
        Keep an exponential moving average of parameters and batch-norm statistics, ``average =
        d * average + (1 - d) * new`` after each iteration t = 1, 2, ... with ``d = min(ema_decay,
        (1 + t) / (10 + t))``. Accuracies are then the average's, and so are the best parameters. (In
        `on_epoch` the model holds the newest ones, which :meth:`check_accuracy` then looks at.)
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
        Changes of the training minibatches, see :mod:`cnnlib.augment`; targets that are images move along.
        Their randomness comes from a stream for each iteration, whose seed the Solver draws once.
    prefetch : int
        Minibatches that a thread prepares ahead of the training where that pays: with `augment`, and
        from memory maps, other arrays on the disk, and batches of your own. 0: no thread. The results are the
        same.
    batch_size : int
        Samples in a minibatch. Batches of your own are minibatches as they are.
    num_epochs : int
    batches_per_epoch : int or None
        Batches of ``train`` that make an epoch, at most as many as it has. None: all; a source that does not
        say how many it has is read once to count them.
    validation_fraction : float or None
        Share of the training samples to validate by, where the data have no validation split; of each label
        the same share. The choice depends on `seed` alone.
    num_train_samples, num_val_samples : int or None
        Samples (a random subset) that an epoch's accuracy check looks at; None for all of the split.
    keep : 'best' or 'last'
        Which epoch's parameters count as the best ones: that in which the `monitor` is best, or the newest.
        (With a learning rate that ends near 0 the last are the best, and choosing by a small validation set
        only adds noise.)
    early_stopping : int, dict or None
        End the training after so many epochs in a row in which the `monitor` was no better than before. Or
        ``{'patience': 5, 'monitor': 'val_loss', 'min_delta': 0.001}``: not better by more than `min_delta`;
        its 'monitor' is another place to say the Solver's. None or False: never.
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
    on_batch : callable or None
        Called with the Solver after each iteration, whose loss is ``solver.loss_history[-1]``; what it
        returns does not count. Random streams are put back behind it, as behind `on_epoch`.
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
    options : Options
        The options above, checked: ``solver.options.batch_size``. Those that may change between two calls of
        :meth:`train` are attributes of the Solver's own, too, which can be set: `num_epochs`,
        `checkpoint_name`, `on_epoch`, `on_batch`, `print_every` and `verbose`.
    histories : dict of str -> list of float
        ``loss`` has an entry for each iteration, ``learning_rate`` (of the last one; NaN if a rule of the
        user's own has none) and ``epoch_seconds`` (of the iterations, without the checks) one for each epoch.
        A metric NAME, say ``accuracy``, has ``train_NAME`` on training samples and ``val_NAME`` on validation
        samples; ``val_loss`` is the validation loss without regularisation and label smoothing: an entry
        before the first epoch and one after each. (NaN where the loss is not known.) ``histories[NAME]`` is
        ``val_NAME``. Progress lines, logs and the columns of a run's tables have these names.
    loss_history, train_acc_history, val_acc_history, val_loss_history, learning_rate_history, epoch_seconds
        The same by the course's names; empty if the accuracy is not among the metrics.
    epoch : int
        Epochs completed.
    best_epoch, best_params, best_val_acc
        The best epoch so far (see `keep`), the parameters it ended with, its validation accuracy. Of
        equal epochs the earliest counts, but a trained model rather than the untrained one. Batch-norm
        statistics are kept along.
    last_params : dict
        The parameters after the newest iteration (themselves, not their average).
    monitored : str
        The name of what `monitor` stands for.
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
    >>> histories = solver.train()
    >>> solver.best_val_acc > 0.9, len(histories["val_accuracy"])
    (True, 4)
    """

    if not TYPE_CHECKING:  # which would let any attribute pass
        __getattr__ = missing(_ELSEWHERE)

    def __init__(
        self,
        model: Trainable,
        data: Mapping[str, Any] | Sources,
        *,
        update_rule: str | Callable[..., Any] = "sgd",
        optim_config: OptimConfig | None = None,
        lr_decay: float = 1.0,
        schedule: Schedule | None = None,
        rate_factors: Mapping[str, float] | None = None,
        weight_decay: float | None = None,
        clip_norm: float | None = None,
        loss: _Metric | None = None,
        class_weight: str | Mapping[int, float] | Sequence[float] | None = None,
        metrics: Metrics | None = None,
        monitor: str | Mapping[str, str] | None = None,
        label_smoothing: float | None = None,
        precision: str | None = None,
        ema_decay: float | None = None,
        lookahead: Mapping[str, float] | None = None,
        preprocess: Mapping[str, Any] | Callable[..., Any] | None = None,
        augment: Augment | None = None,
        prefetch: int = 2,
        batch_size: int = 100,
        num_epochs: int = 10,
        batches_per_epoch: int | None = None,
        validation_fraction: float | None = None,
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
        on_batch: Callable[[Solver], Any] | None = None,
        comm: Any = None,
        micro_batches: int | None = None,
        batchnorm_statistics: str = "local",
        **unknown: NoReturn,
    ) -> None:
        refuse_unknown(unknown)
        options = Options.checked(
            update_rule=update_rule,
            optim_config=optim_config,
            lr_decay=lr_decay,
            schedule=schedule,
            rate_factors=rate_factors,
            weight_decay=weight_decay,
            clip_norm=clip_norm,
            loss=loss,
            class_weight=class_weight,
            metrics=metrics,
            monitor=monitor,
            label_smoothing=label_smoothing,
            precision=precision,
            ema_decay=ema_decay,
            lookahead=lookahead,
            preprocess=preprocess,
            augment=augment,
            prefetch=prefetch,
            batch_size=batch_size,
            num_epochs=num_epochs,
            batches_per_epoch=batches_per_epoch,
            validation_fraction=validation_fraction,
            num_train_samples=num_train_samples,
            num_val_samples=num_val_samples,
            keep=keep,
            early_stopping=early_stopping,
            print_every=print_every,
            verbose=verbose,
            checkpoint_name=checkpoint_name,
            seed=seed,
            sampling=sampling,
            on_epoch=on_epoch,
            on_batch=on_batch,
            comm=comm,
            micro_batches=micro_batches,
            batchnorm_statistics=batchnorm_statistics,
        )
        check_model("Solver", model)
        options = options.changed(precision=set_precision(model, options.precision))
        labels = learns_labels(model, options.loss, options.metrics)
        sources = build_sources(data, outputs_of(model), _wanted(vars(options), options.comm.rank), labels)
        self.options = options
        self.model: Any = model
        self._train: Source = sources.train
        self._val: Source = sources.val
        (X_train, y_train), (X_val, y_val) = self._train.example, self._val.example
        if options.preprocess is None or isinstance(options.preprocess, Normalization):
            check_sample_shapes(model, X_train=X_train, X_val=X_val)
        if hasattr(model, "initialize"):
            model.initialize(sample_images(X_train, options.preprocess))
        loss = chosen_loss(model, options.loss, y_train)
        set_label_smoothing(model, options.label_smoothing, loss)
        was_chosen = options.loss is None and getattr(model, "criterion", None) is None
        refuse_odd_targets(model, loss, was_chosen, y_train=y_train, y_val=y_val)
        trained_with = options.loss
        if options.class_weight is not None:
            refuse_own_loss("class_weight", model)
            all_labels = isinstance(self._train, ArraySource)
            loss = trained_with = class_weighted(model, loss, options.class_weight, y_train, all_labels)
        if self._train.weighs:
            if options.label_smoothing:
                raise ValueError("Solver: weights of samples and label_smoothing exclude each other")
            refuse_own_loss("weights of samples", model)
            trained_with = sample_weighted(loss)
        self._loss_is_known = loss is not None
        self._frozen = checked_frozen("Solver: model", getattr(model, "frozen", ()), model.params)
        self._updater = Updater(
            model.params,
            update_rule=options.update_rule,
            optim_config=options.optim_config,
            lr_decay=options.lr_decay,
            schedule=options.schedule,
            weight_decay=options.weight_decay,
            clip_norm=options.clip_norm,
            rate_factors=options.rate_factors,
        )
        self._metrics = chosen_metrics(options.metrics, loss, y_train)
        self._val_metrics = [*self._metrics, ValidationLoss(loss)]
        self._monitor = build_monitor(options.monitor, options.early_stopping, self._metrics)
        self._refuse_useless_options()
        self._averaging = averaging(options.ema_decay, options.lookahead)
        self._state = TrainingState(
            histories=new_histories(metric.name for metric in self._metrics),
            optim_configs=self._updater.first_configs(model.params, self._frozen),
            random=random_stream(options.seed, "Solver"),
            average=None if self._averaging is None else snapshot(model),
        )
        self._known_end = options.num_epochs  # of the training so far; a higher `num_epochs` has been raised
        self._interrupts = Interrupts()
        self._worker = build_worker(
            model, trained_with, options, self._state.random, self._train.sizes, self._interrupts
        )
        self._worker.refuse_different(self._facts)

    # The training ---------------------------------------------------------------------------------------

    def train(self) -> Histories:
        """Train until `num_epochs` epochs are complete; the model then holds the best parameters.

        An exception leaves the model with the parameters of the newest iteration, and the checkpoints as
        they are; calling ``train()`` again goes on with the next minibatch. Ctrl-C undoes the iteration that
        it falls into, except within the update, which is completed first (a second Ctrl-C stops that too).
        With `checkpoint_name`, and one process, it leaves ``folder/name_interrupted.npz``, from which
        :meth:`resume` goes on to the same bits as the uninterrupted run; the next epoch's checkpoint
        replaces it. The same holds for SIGTERM in a program whose handler raises a KeyboardInterrupt.
        After the end, a raised ``num_epochs`` and another call go on from the last parameters, not from the
        best. Where `early_stopping` made that end, it counts its epochs anew from there.

        Returns
        -------
        dict of str -> list of float
            The `histories`: themselves, which grow when the training goes on.

        Raises
        ------
        FloatingPointError
            If a loss is NaN or infinite; the message names the iteration. The model stays as it was before
            it. If the validation loss is NaN because of NaN or infinity among its samples, which are named.
            With several ranks all raise it.
        OSError
            If a checkpoint cannot be written; on all ranks. (What one rank alone raises ends the whole job.)
        OutOfStepError
            On every rank, if the ranks do not train the same.
        """
        with self._worker.ending_all(), self._worker.batch_norms():
            self._worker.refuse_different(self._facts)
            if self._worker.size > 1:  # the ranks must not stop at different iterations
                self._take_state_of_main()
                self._run()
                return self.histories
            with self._interrupts:
                try:
                    self._run()
                except KeyboardInterrupt:
                    self._save_interrupted()
                    raise
        return self.histories

    def _run(self) -> None:
        """Train from where the state stands to the end; then the model holds the best parameters."""
        state, options = self._state, self.options
        if state.np_random_state is not None:
            set_random_state(state.random, state.np_random_state)
            state.np_random_state = None
        if state.last is not None:
            restore(self.model, state.last)
            state.last = None
        total = options.num_epochs * self.iterations_per_epoch
        verbose = options.verbose and self._worker.main
        with Progress(total, state.iteration, options.print_every, verbose) as progress:
            if options.augment is not None and state.augment_seed is None:
                state.augment_seed = int(state.random.randint(2**31))
            if not state.begun:
                self._measure(progress)
            if options.num_epochs > self._known_end and self._unimproved()[0]:
                state.patience_from = state.epoch
            self._known_end = options.num_epochs
            stopped = self._worker.of_main(self._stops_early(progress))
            while state.epoch < self.num_epochs and not stopped:
                stopped = self._train_epoch(progress) or self._worker.of_main(self._stops_early(progress))
        state.last = snapshot(self.model)
        restore(self.model, state.best)

    def _train_epoch(self, progress: Progress) -> bool:
        """Train an epoch, or what is left of it; return True if the training should end behind it."""
        state = self._state
        if state.pending is None:
            state.pending = self._train.plan(state.random)[::-1]  # popped from the end
        started = time.perf_counter()
        try:
            with contextlib.closing(self._prepared(state.pending[::-1])) as minibatches:
                while state.pending:
                    with self._interrupts.allowed():
                        minibatch = next(minibatches)
                    self._step(minibatch)
                    state.pending.pop()
                    progress.iteration(state.iteration, state.histories["loss"][-1])
                    if self.on_batch is not None:
                        self._call(self.on_batch)
        finally:
            state.seconds += time.perf_counter() - started
        self._measure(progress)
        self._worker.refuse_other_parameters(state.epoch)
        self._worker.on_main(self._save)
        ends = None if self.on_epoch is None else self._call(self.on_epoch)
        return self._worker.of_main(is_flag(ends) and bool(ends))

    def _step(self, minibatch: Minibatch) -> None:
        """Make an iteration: the gradients of the minibatch, and an update of each parameter."""
        state, model = self._state, self.model
        X, y, t = minibatch.X, minibatch.y, state.iteration + 1
        if minibatch.weights is not None:
            y = Weighted(y, minibatch.weights)
        draws = self.options.loss is not None or not isinstance(model, GraphModel) or model._draws()
        # Only the streams that are drawn from: their states take longer than a small step.
        with undone_on_error(model, self._streams() if draws else ()):
            loss, grads = self._worker.gradients(X, y, minibatch.total, t - 1)
            loss = float(loss)
            try:
                if not math.isfinite(loss):
                    raise FloatingPointError(f"the loss is {loss}")
                grads = checked_gradients(model.params, grads, self._frozen)
                epoch = (t - 1) / self.iterations_per_epoch
                self._updater.step(model.params, grads, state.optim_configs, epoch, self.num_epochs)
            except FloatingPointError as error:
                # Loss and gradients are those of all ranks, so all are here; the images are each rank's own.
                fault = self._worker.first(fault_of_data(X, minibatch.origin, minibatch.origin_rows))
                advice = fault or fault_of_params(model.params) or "a lower learning rate may help"
                message = f"iteration {t} (epoch {state.epoch + 1}): {error}; {advice}"
                raise self._worker.on_all(FloatingPointError(message)) from None
        state.histories["loss"].append(loss)
        if self._averaging is not None:
            total = self.num_epochs * self.iterations_per_epoch
            self._averaging.after_iteration(state.average, model, t, total)

    # Minibatches ----------------------------------------------------------------------------------------

    def _prepared(self, tickets: Sequence[Any]) -> Any:
        """Iterate over the minibatches of these tickets, a thread being ahead where that pays."""
        first = self._state.iteration
        jobs = [functools.partial(self._minibatch, ticket, first + i) for i, ticket in enumerate(tickets)]
        ahead = self.options.prefetch if self.options.augment is not None or self._train.waits else 0
        return in_order(lambda job: job(), jobs, 1, ahead) if ahead else (job() for job in jobs)

    def _minibatch(self, ticket: Any, iteration: int) -> Minibatch:
        """Return this rank's share of a minibatch, preprocessed and augmented.

        Runs in the prefetching thread, so it changes no state but the source's.
        """
        options, epoch = self.options, iteration // self.iterations_per_epoch
        minibatch = self._train.read(ticket, epoch, self._worker.share)
        if minibatch.total < self._worker.size:
            raise ValueError(
                f"Solver: {minibatch.total} samples in a minibatch are too few for {self._worker.size} ranks"
            )
        X, y = minibatch.X, minibatch.y
        if options.preprocess is not None:
            X = options.preprocess(X)
        if options.augment is not None:
            shapes, seed = (X.shape, y.shape), self._state.augment_seed
            assert seed is not None
            rng = self._worker.generator([seed, iteration], minibatch.total)
            X, y = augmented(options.augment, X, y, rng, Samples(minibatch.rows, epoch, seed))
            for what, array, shape in zip(("images", "targets"), (X, y), shapes, strict=True):
                if np.shape(array) != shape:
                    raise ValueError(f"Solver: augment made {what} of shape {np.shape(array)} from {shape}")
        return replace(minibatch, X=X, y=y)

    # The end of an epoch --------------------------------------------------------------------------------

    def _measure(self, progress: Progress) -> None:
        """Measure the model at the start of the training or the end of an epoch; keep the best."""
        state = self._state
        with undone_on_error(self.model, self._streams()), holding(state.average, self.model):
            make_scorer = functools.partial(BatchScorer, self.model, self.options.preprocess)
            train = self._measured(self._metrics, self._train, self.options.num_train_samples, make_scorer)
            val = self._measured(self._val_metrics, self._val, self.options.num_val_samples, make_scorer)
            values = {train_name(metric): value for metric, value in train.items()}
            values |= {val_name(metric): value for metric, value in val.items()}
            self._refuse_faulty_samples(values["val_loss"])
            best = snapshot(self.model) if self._is_best(values) else None
        if state.pending is not None:
            state.pending = None
            state.epoch += 1
            state.histories["epoch_seconds"].append(state.seconds)
            state.seconds = 0.0
            state.histories["learning_rate"].append(self._updater.end_epoch(state.optim_configs))
        for name, value in values.items():
            state.histories[name].append(value)
        if best is not None:
            state.best_epoch, state.best = state.epoch, best
        shown = "; ".join(f"{name}: {_short(value)}" for name, value in values.items())
        progress.message(f"(Epoch {state.epoch} / {self.num_epochs}) {shown}")

    def _measured(
        self, metrics: Sequence[Metric], source: Source, num_samples: int | None, make_scorer: Any
    ) -> dict[str, float]:
        """Return metrics of the samples, or of some of them; the ranks share the work."""
        size = check_batch_size(source.example[0], self.options.batch_size)
        batches = source.to_measure(num_samples, self._state.random, size)
        return self._worker.measure(metrics, batches, make_scorer, self._state.iteration)

    def _is_best(self, values: Mapping[str, float]) -> bool:
        """Return whether a model with these values is the best so far."""
        state = self._state
        if self.options.keep == "last" or state.best is None:
            return True
        return self._monitor.prefers(values, state.histories, state.best_epoch)

    def _unimproved(self) -> tuple[bool, int]:
        """Return whether `early_stopping` ends the training here, and the epoch of the last improvement."""
        rule, state = self.options.early_stopping, self._state
        if rule is None:
            return False, state.epoch
        improved = rule.improved_in(state.histories[self.monitored], self._monitor)
        return state.epoch - max(improved, state.patience_from) >= rule.patience, improved

    def _stops_early(self, progress: Progress) -> bool:
        """Return whether `early_stopping` ends the training here, which `progress` then tells."""
        stops, improved = self._unimproved()
        if stops:
            assert self.options.early_stopping is not None
            text = self.options.early_stopping.message(improved, self._monitor)
            progress.message(f"(Epoch {self.epoch}) {text}")
        return stops

    def _call(self, callback: Callable[..., Any]) -> Any:
        """Call a function of the user's, and put the random streams back behind it.

        A checkpoint was written before `on_epoch`, and a resumed run need not have an `on_batch`.
        """
        with put_back(self._streams()), self._interrupts.allowed():
            return callback(self)

    def _streams(self) -> list[Any]:
        """Return the streams that the training draws from."""
        return [self._state.random, getattr(self.model, "rng", None)]

    def _save(self) -> None:
        """Write the checkpoint of an epoch."""
        if self.checkpoint_name is not None:
            save_run(self.checkpoint_name, self.options.saved(), self.state())

    def _save_interrupted(self) -> None:
        """Write a checkpoint from within an epoch, unless the newest one says as much."""
        within = self._state.pending is not None and self._state.begun
        if within and self._interrupts.clean and self.checkpoint_name is not None:
            save_run(self.checkpoint_name, self.options.saved(), self.state(), interrupted=True)

    # Other samples --------------------------------------------------------------------------------------

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

        Raises
        ------
        ValueError
            For samples and labels that do not fit, for a model that learns numbers, and for one with several
            outputs.
        """
        if outputs_of(self.model):
            raise ValueError(
                "check_accuracy: the model has several outputs; their metrics are in `histories`"
            )
        if learns_numbers(self.model, self.options.loss, self._train.example[1]):
            raise ValueError(
                "check_accuracy: the model learns numbers, which have no accuracy; its metrics are in "
                "`histories`, and cnnlib.prepare(model)(X) gives the numbers"
            )
        images, labels = checked_split("check_accuracy", X, y)
        if num_samples is not None:
            num_samples = positive_int("check_accuracy", "num_samples", num_samples)
        batch_size = positive_int("check_accuracy", "batch_size", batch_size)
        rows = subsample(images, num_samples, self._state.random)
        batches = batches_of(images, labels, rows, batch_size)
        scorer = functools.partial(BatchScorer, self.model, self.options.preprocess)
        return self._worker.measure_alone([Accuracy()], batches, scorer, tta)["accuracy"]

    # What the training has come to ----------------------------------------------------------------------

    @property
    def histories(self) -> Histories:
        """All histories by name."""
        return self._state.histories

    @property
    def loss_history(self) -> list[float]:
        """``histories["loss"]``"""
        return self._state.histories["loss"]

    @property
    def train_acc_history(self) -> list[float]:
        """``histories["train_accuracy"]``, empty where the accuracy is not measured"""
        return self._state.histories.get("train_accuracy", [])

    @property
    def val_acc_history(self) -> list[float]:
        """``histories["val_accuracy"]``, empty where the accuracy is not measured"""
        return self._state.histories.get("val_accuracy", [])

    @property
    def val_loss_history(self) -> list[float]:
        """``histories["val_loss"]``"""
        return self._state.histories["val_loss"]

    @property
    def learning_rate_history(self) -> list[float]:
        """``histories["learning_rate"]``"""
        return self._state.histories["learning_rate"]

    @property
    def epoch_seconds(self) -> list[float]:
        """``histories["epoch_seconds"]``"""
        return self._state.histories["epoch_seconds"]

    @property
    def epoch(self) -> int:
        """Epochs completed."""
        return self._state.epoch

    @property
    def best_epoch(self) -> int:
        """The best epoch so far."""
        return self._state.best_epoch

    @property
    def best_val_acc(self) -> float | None:
        """The validation accuracy of the best epoch; None where the accuracy is not measured, or not yet"""
        return self._state.at_best("val_accuracy")

    @property
    def best_params(self) -> Params:
        """The parameters of the best epoch."""
        return {} if self._state.best is None else self._state.best["params"]

    @property
    def last_params(self) -> Params:
        """The parameters after the newest iteration."""
        return dict(self.model.params) if self._state.last is None else self._state.last["params"]

    @property
    def optim_configs(self) -> dict[str, dict[str, Any]]:
        """The update rule's config and state for each parameter."""
        return self._state.optim_configs

    @property
    def monitored(self) -> str:
        """The name of the history by which epochs are compared."""
        return self._monitor.name

    @property
    def iterations_per_epoch(self) -> int:
        """Minibatches of an epoch."""
        return self._train.steps

    @property
    def X_train(self) -> Any:
        """The training images; of batches of your own those of the first one."""
        return self._train.example[0]

    @property
    def y_train(self) -> Any:
        """The training targets, as `X_train`."""
        return self._train.example[1]

    @property
    def X_val(self) -> Any:
        """The validation images, as `X_train`."""
        return self._val.example[0]

    @property
    def y_val(self) -> Any:
        """The validation targets, as `X_train`."""
        return self._val.example[1]

    # The state, and going on from it --------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return a copy of the run's state: all that :meth:`load_state` needs to continue from here.

        Returns
        -------
        dict
            ``params`` and ``bn_params`` (after the newest iteration), counters, histories, the best
            parameters, averages, the optimizer's state, random streams, what is left of an epoch that is
            under way: what :func:`cnnlib.checkpoint.save_checkpoint` can store.
        """
        return self._state.content(self.model, self._train.count)

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restore a :meth:`state`, and the parameters of its model.

        With the same data and settings, ``train()`` then goes on to the same bits.

        Raises
        ------
        ValueError
            If it is no state, or one of another model, number of training samples or metrics, or the
            training data cannot seek; nothing has changed then.
        """
        _refuse_without_seek("load_state", self._train)
        self._load("load_state", state)

    def _load(self, where: str, state: Mapping[str, Any]) -> None:
        """Restore a state; the message of a ValueError begins with `where`."""
        check_content(where, state, self.model)
        if state["num_train"] != self._train.count:
            raise ValueError(
                f"{where}: the run had {state['num_train']} training {self._train.unit}, this one "
                f"{self._train.count}"
            )
        if (state["average"] is None) != (self._averaging is None):
            raise ValueError(f"{where}: one run has averages (ema_decay, lookahead), the other none")
        if set(state["histories"]) != set(self.histories):
            raise ValueError(
                f"{where}: the run measured {', '.join(metrics_of(state['histories'])) or 'nothing'}, "
                f"this one measures {', '.join(metrics_of(self.histories)) or 'nothing'}"
            )
        self._state.take(state, self.model)

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
        loss: Callable[..., Any] | None = None,
        metrics: Any = None,
        preprocess: Callable[..., Any] | None = None,
        augment: Augment | None = None,
        early_stopping: int | Mapping[str, Any] | None = None,
        print_every: int | None = None,
        verbose: bool | None = None,
        checkpoint_name: str | os.PathLike[str] | None = None,
        on_epoch: Callable[[Any], Any] | None = None,
        on_batch: Callable[[Any], Any] | None = None,
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
        update_rule, schedule, loss, metrics, preprocess, augment : callable or None
            Needed where the run's was a function of the user's own; `metrics` as in :class:`Solver`, all of
            them.
        early_stopping : int, dict, False or None
            Another rule for the run's end, False for none; None keeps the run's own. Epochs are compared as
            before, unless it names a `monitor`.
        print_every, verbose, checkpoint_name, on_epoch, on_batch
            As in :class:`Solver`; None keeps the run's own settings. Checkpoints go on beside `path`.
        comm
            As in :class:`Solver`; rank 0 reads the file. The number of ranks need not be the run's.

        Raises
        ------
        ValueError
            If the file is damaged, no checkpoint of a Solver, or from another model or number of training
            samples, or the training data cannot go back to where they stood; the message names it, and the
            model is left alone.
        OSError
            If it cannot be read.
        """
        comm = as_communicator("comm", comm)
        asked = {
            "num_epochs": num_epochs,
            "update_rule": update_rule,
            "schedule": schedule,
            "loss": loss,
            "metrics": metrics,
            "preprocess": preprocess,
            "augment": augment,
            "early_stopping": early_stopping,
            "print_every": print_every,
            "verbose": verbose,
            "checkpoint_name": checkpoint_name,
            "on_epoch": on_epoch,
            "on_batch": on_batch,
            "comm": comm,
        }
        given = {name: value for name, value in asked.items() if value is not None}
        path = path_text("Solver.resume", "path", path)
        saved, state = comm.from_root(lambda: read_run(path, model))
        for name, value in saved.items():
            if is_own(value) and name not in given:
                raise ValueError(f"{path}: the run's {name} was a function of its own; pass it as {name}")
        settings = {**saved, "checkpoint_name": checkpoint_prefix(path) or saved["checkpoint_name"], **given}
        sources = build_sources(data, outputs_of(model), _wanted(settings, comm.rank), labels=False)
        train = sources.train
        if train.count != state["num_train"]:
            raise ValueError(
                f"{path}: the run had {state['num_train']} training {train.unit}, data has {train.count}"
            )
        _refuse_without_seek(path, train)
        rule = build_early_stopping(given.get("early_stopping"))
        if saved["monitor"] is None and "early_stopping" in given and not (rule and rule.monitor):
            settings["monitor"] = (saved["early_stopping"] or {}).get("monitor")
        solver = cls(model, sources, **settings)
        solver._load(path, state)
        solver._known_end = saved["num_epochs"]
        return solver

    # The options that may change ------------------------------------------------------------------------

    @property
    def num_epochs(self) -> int:
        """The epoch with which the training ends."""
        return self.options.num_epochs

    @num_epochs.setter
    def num_epochs(self, value: int) -> None:
        self.options = self.options.changed(num_epochs=value)

    @property
    def checkpoint_name(self) -> str | None:
        """Folder and name of the checkpoints to come; None for none."""
        return self.options.checkpoint_name

    @checkpoint_name.setter
    def checkpoint_name(self, value: str | os.PathLike[str] | None) -> None:
        self.options = self.options.changed(checkpoint_name=value)

    @property
    def on_epoch(self) -> Callable[..., Any] | None:
        """The function that is called after each epoch."""
        return self.options.on_epoch

    @on_epoch.setter
    def on_epoch(self, value: Callable[..., Any] | None) -> None:
        self.options = self.options.changed(on_epoch=value)

    @property
    def on_batch(self) -> Callable[..., Any] | None:
        """The option of this name."""
        return self.options.on_batch

    @on_batch.setter
    def on_batch(self, value: Callable[..., Any] | None) -> None:
        self.options = self.options.changed(on_batch=value)

    @property
    def print_every(self) -> int:
        """Iterations between two reports of the loss."""
        return self.options.print_every

    @print_every.setter
    def print_every(self, value: int) -> None:
        self.options = self.options.changed(print_every=value)

    @property
    def verbose(self) -> bool:
        """False: show nothing."""
        return self.options.verbose

    @verbose.setter
    def verbose(self, value: bool) -> None:
        self.options = self.options.changed(verbose=value)

    # Refusals, and what the ranks share -----------------------------------------------------------------

    def _refuse_useless_options(self) -> None:
        """Refuse options with which no epoch would count."""
        options = self.options
        compares = options.keep == "best" or options.early_stopping is not None
        if compares and self.monitored == "val_loss" and not self._loss_is_known:  # always NaN
            raise ValueError(
                "Solver: epochs are compared by val_loss, which is not known where the model has a loss of "
                "its own: say loss=, another monitor, or keep='last'"
            )
        steps = 0 if options.lookahead is None else options.lookahead["steps"]
        total = options.num_epochs * self.iterations_per_epoch
        if steps > total > 0:  # the untrained model would stay
            raise ValueError(f"Solver: lookahead has {steps} steps, the run has but {total} iterations")

    def _refuse_faulty_samples(self, val_loss: float) -> None:
        """FloatingPointError where NaN among the validation samples is why their loss is NaN."""
        if math.isnan(val_loss) and self._loss_is_known:
            fault = self._val.not_finite(fault_of_rows)
            if fault is not None:
                raise self._worker.on_all(FloatingPointError(f"the validation loss is {val_loss}; {fault}"))

    def _facts(self) -> dict[str, Any]:
        """Collect what has to be the same on all ranks beside the model."""
        saved = self.options.saved().items()
        facts = {name: repr(value) for name, value in saved if name not in _EACH_RANKS_OWN}
        return facts | self._train.facts() | self._val.facts()

    def _take_state_of_main(self) -> None:
        """Give all ranks the state of rank 0: parameters, optimizer state, random streams, histories."""
        state = self._worker.of_main(self.state() if self._worker.main else None)
        if not self._worker.main:
            self._load("load_state", state)

    def __repr__(self) -> str:
        rule = self._updater.rule_name or getattr(self.options.update_rule, "__name__", "own")
        parts = [
            repr(self.model),
            f"update_rule={rule!r}",
            f"batch_size={self.options.batch_size}",
            f"{self._train.count:,} training {self._train.unit}",
            f"epoch {self.epoch} of {self.num_epochs}",
        ]
        best = self._state.at_best(self.monitored)
        if best is not None:
            parts.append(f"best_{self.monitored}={best:.4g}")
        return f"Solver({', '.join(parts)})"

    def lr_find(self, low: float = 1e-6, high: float = 10.0, steps: int = 100) -> RateCurve:
        """Train a copy with learning rates that grow from step to step, and say which one is good.

        The minibatches are drawn from the training samples and go through `preprocess`, not `augment`;
        `schedule`, `lr_decay` and weights of samples are left out. The run stays as it is.

        Parameters
        ----------
        low, high : float
            The first and the last rate; between them they grow by one factor.
        steps : int
            How many minibatches; fewer where the loss grows beyond four times the least one.

        Returns
        -------
        RateCurve
            `suggestion`, `rates` and `losses`; its ``str`` is the curve, and ``plot()`` draws it.

        Raises
        ------
        ValueError
            For rates that do not grow from above 0, fewer than 10 steps, an update rule without a learning
            rate, and samples that are read as batches.

        Examples
        --------
        >>> from cnnlib.data import load_digits
        >>> from cnnlib.models import FullyConnectedNet
        >>> solver = Solver(FullyConnectedNet([20], (1, 8, 8), seed=0), load_digits(), seed=0, verbose=False)
        >>> curve = solver.lr_find()
        >>> 1e-4 < curve.suggestion < 5
        True
        """
        where = "Solver.lr_find"
        low, high = above_0(where, "low", low), above_0(where, "high", high)
        steps = at_least(LEAST_STEPS, where, "steps", steps)
        if low >= high:
            raise ValueError(f"{where}: high must be above low, got {low} and {high}")
        if self._updater.base_rate is None:
            raise ValueError(f"{where}: the update rule has no learning_rate")
        X, y, options = self.X_train, self.y_train, self.options
        if not isinstance(self._train, ArraySource):
            raise ValueError(f"{where}: needs training samples in arrays, as X_train and y_train")
        model, updater = copy.deepcopy((self.model, self._updater))
        updater.schedule = None
        configs = updater.first_configs(model.params, self._frozen)
        random = np.random.default_rng(_FINDERS_SEED)
        count = min(options.batch_size, len(X))
        given = {} if options.loss is None else {"loss": options.loss}

        def step(rate: float) -> float:
            rows = np.sort(random.choice(len(X), count, replace=False))
            images = X[rows] if options.preprocess is None else options.preprocess(X[rows])
            loss, grads = model.loss(images, y[rows], **given)
            grads = checked_gradients(model.params, grads, self._frozen)
            try:
                updater.step_at(rate, model.params, grads, configs)
            except FloatingPointError:  # a gradient that is to be clipped is not finite
                return math.nan
            return float(loss)

        with np.errstate(all="ignore"):  # the last steps diverge
            return find_rate(step, np.geomspace(low, high, steps))

    def profile_step(self) -> StepProfile:
        """Return where the time of a training step goes: by operation, loss, update, and the rest.

        It makes steps with the first training samples, as many as a minibatch of this rank has, for about two
        seconds, by what trains the model. They are made on copies: the run stays as it is. The samples go
        through `preprocess`, outside of what is measured, and not through `augment`.

        Returns
        -------
        StepProfile
            Its `rows()` are for tables, and its `table()` is text.

        Raises
        ------
        TypeError
            For a model that is none of the library's, whose operations nobody knows.
        """
        if not isinstance(self.model, GraphModel):
            raise TypeError(
                f"profile_step: needs a model of cnnlib.models, whose operations it knows, "
                f"got {type_name(self.model)}"
            )
        model, configs, updater = copy.deepcopy((self.model, self.optim_configs, self._updater))
        images = min(-(-self.options.batch_size // self.options.comm.size), len(self.X_train))
        X, y = self.X_train[:images], self.y_train[:images]
        if self.options.preprocess is not None:
            X = self.options.preprocess(X)
        seconds = sum(self.epoch_seconds) / max(len(self.loss_history), 1)
        steps = int(_PROFILED_SECONDS / max(seconds, _PROFILED_SECONDS / _PROFILED_STEPS))
        course = len(self.epoch_seconds), max(self.num_epochs, 1)

        def update(grads: Gradients) -> None:
            updater.step(model.params, grads, configs, *course)

        return profile_step(model, X, y, update, max(1, steps))


def _wanted(settings: Mapping[str, Any], rank: int) -> Wanted:
    """Return the Solver's options that sources depend on; rank 0 tells what takes long, if `verbose`."""
    own = {field.name: settings[field.name] for field in fields(Wanted) if field.name != "tell"}
    return Wanted(**own, tell=print) if settings["verbose"] and rank == 0 else Wanted(**own)


def _refuse_without_seek(where: str, source: Source) -> None:
    """ValueError if a training from this source cannot go on to the same bits."""
    if source.cannot_seek:
        raise ValueError(
            f"{where}: the run cannot go on to the same bits: {source.cannot_seek}. To train on from its "
            "weights, give load_weights(path, model) and a new Solver"
        )


def _short(value: float) -> str:
    """Format with four digits behind the point, or four in all where these would say nothing."""
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e5 else f"{value:.4g}"
