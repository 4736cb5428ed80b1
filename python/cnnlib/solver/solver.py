"""The Solver: minibatch gradient descent with accuracy checks, checkpoints and exact resumption."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeAlias

from numpy.typing import ArrayLike

from cnnlib._params import positive_int
from cnnlib._typing import Trainable
from cnnlib.inference.scoring import BatchScorer
from cnnlib.solver.evaluation import batches_of, learns_numbers, outputs_of
from cnnlib.solver.loop import TrainingLoop
from cnnlib.solver.metrics import Accuracy
from cnnlib.solver.minibatches import checked_split, subsample
from cnnlib.solver.options import check_options, refuse_unknown
from cnnlib.typing import Augment, OptimConfig, Schedule

_Metric: TypeAlias = str | Mapping[str, Any] | Callable[..., Any]
Metrics: TypeAlias = _Metric | Sequence[_Metric]


class Solver(TrainingLoop):
    """Trains a model (any object as in :mod:`cnnlib.models`) and records losses and metrics.

    Parameters
    ----------
    model : object with ``params`` and ``loss(X, y=None)``
    data : dict
        ``X_train`` (N, ...), ``y_train``, ``X_val``, ``y_val``. Targets are integer labels (N,), or with
        `loss` or `metrics` what these take: labels of pixels, numbers (N, ...) of any shape; for several
        outputs a dict of targets by the outputs' names, or a tuple in their order. Never copied as a whole:
        each minibatch is gathered by itself, so memory maps (``np.load(..., mmap_mode='r')``) work,
        and several of them as a :class:`cnnlib.data.ShardedArray`.
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
    metrics : str, dict, callable, list of these, or None
        What is measured of training and validation samples before the first epoch and after each: by name
        'accuracy', 'top5', 'rmse', 'mae', 'r2', 'psnr' (``{'name': 'psnr', 'range': 255}``), 'iou', 'f1', see
        :mod:`cnnlib.solver.metrics`; or functions ``metric(scores, y) -> number``, which are given all
        scores at once. None: 'f1' where the loss is 'bce' or 'dice', 'rmse' where it is 'mse', 'l1' or
        'huber', or where targets are numbers, else 'accuracy'. Where the loss is 'cross_entropy', whose
        targets are probabilities, labels are the likeliest classes; a label that the loss ignores counts in
        none. Several outputs: a dict of these by the outputs' names; they are called ``output/metric``.
    monitor : str, dict or None
        The metric, or 'val_loss', by which epochs are compared, for `keep` and `early_stopping`. Its name
        says whether more or less of it is better; for a function of your own say ``{'name': 'mine',
        'direction': 'min'}``. None: the first of the metrics; of several outputs 'val_loss'.
    label_smoothing : float or None
        Sets the model's ``label_smoothing``, in [0, 1), which counts where no `loss` is named; None leaves it
        alone.
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
        from memory maps. 0: no thread. The results are the same.
    batch_size, num_epochs : int
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
    histories : dict of str -> list of float
        ``loss`` has an entry for each iteration, ``learning_rate`` (of the last one; NaN if a rule of the
        user's own has none) and ``epoch_seconds`` (of the iterations, without the checks) one for each epoch.
        Each metric's name is its history on the validation samples, ``train_<name>`` on training samples,
        ``val_loss`` the validation loss without regularisation and label smoothing: an entry before the
        first epoch and one after each. (NaN where the loss is not known.)
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
    >>> solver.train()
    >>> solver.best_val_acc > 0.9, len(solver.val_acc_history)
    (True, 4)
    """

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
        loss: _Metric | None = None,
        metrics: Metrics | None = None,
        monitor: str | Mapping[str, str] | None = None,
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
        super().__init__(model, data, **check_options(locals()))

    def __repr__(self) -> str:
        rule = self._updater.rule_name or getattr(self.update_rule, "__name__", "own")
        parts = [
            repr(self.model),
            f"update_rule={rule!r}",
            f"batch_size={self.batch_size}",
            f"{len(self.X_train):,} training samples",
            f"epoch {self.epoch} of {self.num_epochs}",
        ]
        best = self._record.at_best(self.monitored)
        if best is not None:
            parts.append(f"best_{self._record.monitor.title}={best:.4g}")
        return f"Solver({', '.join(parts)})"

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
            If a loss is NaN or infinite; the message names the iteration. The model stays as it was before
            it. If the validation loss is NaN because of NaN or infinity among its samples, which are named.
            With several ranks all raise it.
        OSError
            If a checkpoint cannot be written; on all ranks. (What one rank alone raises ends the whole job.)
        OutOfStepError
            On every rank, if the ranks do not train the same.
        """
        with self.comm.guard(), self._worker.batch_norms():
            self._start()
            if self.comm.size > 1:  # whose ranks must not stop at different iterations
                self._run()
                return
            with self._interrupts:
                try:
                    self._run()
                except KeyboardInterrupt:
                    self._save_interrupted()
                    raise

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
        if learns_numbers(self.model, self.loss, self.y_train):
            raise ValueError(
                "check_accuracy: the model learns numbers, which have no accuracy; its metrics are in "
                "`histories`, and cnnlib.prepare(model)(X) gives the numbers"
            )
        images, labels = checked_split("check_accuracy", X, y)
        if num_samples is not None:
            num_samples = positive_int("check_accuracy", "num_samples", num_samples)
        batch_size = positive_int("check_accuracy", "batch_size", batch_size)
        batches = batches_of(images, subsample(images, num_samples, self._random), batch_size)
        scorer = functools.partial(BatchScorer, self.model, self.preprocess)
        measure = self._worker.measure_alone
        return measure([Accuracy()], images, labels, batches, scorer, tta)["accuracy"]
