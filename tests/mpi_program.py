"""What the ranks run in the tests of cnnlib.distributed: ``mpi_program.py FUNCTION[,FUNCTION...] FOLDER``.

Of several functions each has a folder of its own below FOLDER.
"""

import math
import os
import signal
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
from cnnlib.data import Normalization, load_array_folder
from cnnlib.distributed import MPIComm, OutOfStepError, SerialComm, start_checks, world
from cnnlib.models import ConvNet, FullyConnectedNet
from cnnlib.solver import Solver
from several_outputs import several_outputs, with_targets
from training import LinearModel, NoisyModel, digits_like

RESIDUAL = [
    {"conv": 4},
    "batchnorm",
    "relu",
    {"max_pool": 2},
    {"residual": [{"conv": 6}, "batchnorm"], "shortcut": [{"conv": 6, "size": 1}]},
    "relu",
    "batchnorm",
    {"affine": 8},
    {"batchnorm": None, "scale": False},
    "relu",
]


def dense():
    return FullyConnectedNet((12,), input_dim=36, num_classes=4, seed=0, reg=1e-2, dtype=np.float64)


def convolutional(spec=("relu",), dtype=np.float64):
    return ConvNet([{"conv": 4}, *spec], (1, 6, 6), 4, seed=0, reg=1e-3, dtype=dtype)


def residual(**options):
    return ConvNet(RESIDUAL, (1, 6, 6), 4, seed=0, dtype=np.float64, **options)


def worst(scores, y):
    """A metric of one's own, which is given all scores."""
    return np.abs(scores - y).max()


def targets(data, name):
    """Other targets than labels for the cases of these names."""
    if name in ("sequence", "stream"):
        return in_batches(data, name)
    if name == "outputs":
        return with_targets(data, ignored=0)
    for part in ("train", "val"):
        X = data[f"X_{part}"]
        if name == "numbers":
            data[f"y_{part}"] = np.stack([X[:, 0, :3].sum((1, 2)), X[:, 0, 0, 0]], 1).astype(np.float64)
        elif name == "pixels":
            data[f"y_{part}"] = (X[:, 0] > 0.5).astype(np.int64)
    return data


def in_batches(data, name):
    """The data as weighted batches of 13, as a sequence or as a function of the epoch."""
    weights = np.random.default_rng(3).random(61)
    rows = [slice(start, start + 13) for start in range(0, 61, 13)]
    train = [(data["X_train"][part], data["y_train"][part], weights[part]) for part in rows]
    val = [(data["X_val"][part], data["y_val"][part]) for part in (slice(0, 13), slice(13, 20))]
    if name == "sequence":
        return {"train": train, "val": val}
    return {"train": lambda epoch: train[epoch:] + train[:epoch], "val": lambda: iter(val)}


# Runs whose results must not depend on the number of ranks. 61 samples in minibatches of 15 and 16.
CASES = {
    "dense": (dense, {"update_rule": "sgd_momentum", "clip_norm": 0.5}),
    "float32": (lambda: convolutional(dtype=np.float32), {"update_rule": "adam"}),
    "replacement": (dense, {"sampling": "replacement", "num_train_samples": 33}),
    "averaged": (
        lambda: convolutional(({"max_pool": 2}, "relu")),
        {"update_rule": "adamw", "ema_decay": 0.9, "schedule": "cosine", "weight_decay": 0.1},
    ),
    "augmented": (
        convolutional,
        {"augment": ["flip", {"name": "crop", "pad": 1}, {"name": "cutout", "size": 2}, "alternating-flip"]},
    ),
    "stopped": (
        dense,
        {
            "early_stopping": {"patience": 2, "monitor": "val_loss"},
            "preprocess": Normalization(0.3, 2.0),
            "optim_config": {"learning_rate": 0.5},
            "num_epochs": 30,
        },
    ),
    "global": (residual, {"batchnorm_statistics": "global", "update_rule": "sgd_nesterov_momentum"}),
    "exact": (
        lambda: ConvNet([*RESIDUAL, {"dropout": 0.3}], (1, 6, 6), 4),
        {"micro_batches": 5, "augment": ["flip"], "preprocess": Normalization(0.2, 1.5)},
    ),
    "exact-noisy": (lambda: NoisyModel(36, 4), {"micro_batches": 4, "seed": None}),
    "numbers": (
        lambda: FullyConnectedNet((12,), input_dim=36, num_classes=2, seed=0, dtype=np.float64),
        {"loss": "huber", "metrics": ["r2", "mae", worst], "monitor": "mae", "update_rule": "adam"},
    ),
    "pixels": (
        lambda: ConvNet([{"conv": 4}, "relu", "pixels"], (1, 6, 6), 2, seed=0, dtype=np.float64),
        {"loss": "softmax", "metrics": ["iou", "accuracy"], "augment": ["flip", {"name": "crop", "pad": 1}]},
    ),
    "outputs": (
        lambda: several_outputs(norm=False),
        {"metrics": {"label": "top5", "size": ["mae", worst]}, "augment": "flip", "update_rule": "adam"},
    ),
    "sequence": (dense, {"augment": "alternating-flip", "num_val_samples": 13}),
    "stream": (dense, {"update_rule": "adam", "num_train_samples": 20}),
    "local": (residual, {}),
    "noisy": (lambda: NoisyModel(36, 4), {"seed": None}),
}


def train_case(name, comm, **settings):
    """A trained Solver of one of the cases."""
    build, options = CASES[name]
    np.random.seed(5 if comm.rank == 0 else comm.rank)  # all have to go on as rank 0 begins
    model = build()
    defaults = {"batch_size": 16, "num_epochs": 3, "seed": 1, "verbose": False}
    solver = Solver(model, targets(digits_like(61), name), comm=comm, **{**defaults, **options, **settings})
    solver.train()
    return solver


def result_of(solver):
    """What a run has come to, as arrays."""
    names = {"loss": "loss_history", "train_accuracy": "train_acc_history", "val_accuracy": "val_acc_history"}
    result = {
        names.get(name, name): np.array(values)
        for name, values in solver.histories.items()
        if name not in ("epoch_seconds", "learning_rate")
    }
    result["val_loss_history"] = result.pop("val_loss")
    result |= {f"best {name}": value for name, value in solver.best_params.items()}
    result |= {f"last {name}": value for name, value in solver.last_params.items()}
    for key, bn_param in enumerate(getattr(solver.model, "bn_params", [])):
        result |= {f"{key} {name}": v for name, v in bn_param.items() if isinstance(v, np.ndarray)}
    return result


def say(comm, folder, text):
    """A line for the test to read: what several ranks print may be mixed up."""
    with open(folder / f"said-{comm.rank}.txt", "a") as file:
        file.write(f"{text}\n")


def same_on_all(comm, result):
    """Every rank has come to the same bits."""
    texts = comm.allgather({name: value.tobytes() for name, value in result.items()})
    return all(text == texts[0] for text in texts)


# The programs ---------------------------------------------------------------------------------------------


def parity(comm, folder):
    """Train every case, with all three ranks and then in parts of one and two; each part's rank 0 writes."""
    from mpi4py import MPI

    part = MPIComm(MPI.COMM_WORLD.Split(min(comm.rank, 1), comm.rank))
    for each in (comm, part):
        for name in CASES:
            result = result_of(train_case(name, each))
            assert same_on_all(each, result), name
            if each.rank == 0:
                np.savez(folder / f"{name}-{each.size}.npz", **result)


def order(comm, folder):
    """Which samples were in which minibatch; X lies in a file, of which each rank reads its share."""
    data = digits_like(61)
    if comm.rank == 0:
        np.save(folder / "X.npy", data["X_train"])
    comm.bcast(None)
    X = np.load(folder / "X.npy", mmap_mode="r").view(Recorded)
    model = LinearModel(36, 4)
    solver = Solver(
        model,
        {**data, "X_train": X},
        batch_size=16,
        num_epochs=2,
        num_train_samples=None,
        seed=1,
        comm=comm,
        verbose=False,
    )
    solver.train()
    read = [len(rows) for rows in Recorded.read]
    seen = comm.allgather(model.seen)
    if comm.rank == 0:
        batches = [np.concatenate(shares) for shares in zip(*seen, strict=True)]
        np.savez(folder / f"order-{comm.size}.npz", *batches)
    say(comm, folder, f"rank {comm.rank} read {sum(read)} samples, {max(read)} at a time")


class Recorded(np.memmap):
    """Remembers which samples of the training set were read, but for the 61 that the start check reads."""

    read: ClassVar = []

    def __getitem__(self, index):
        if isinstance(index, np.ndarray) and len(index) < 61:
            Recorded.read.append(index)
        return np.asarray(super().__getitem__(index))


def pages(comm, folder):
    """One epoch of images in three files; how much of the files each rank has in its memory then.

    An image takes 256 KiB: the system maps up to 64 KiB around a page that is touched, more where the file
    was written in larger pieces.
    """
    start_checks._IMAGES = 4  # instead of 256: these images are all there are
    shape, count = (4, 256, 256), 192
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, count)
    if comm.rank == 0:
        for number in range(3):
            with open(folder / f"X_train_{number}.npy", "xb", buffering=0) as file:
                header = {"descr": "|u1", "fortran_order": False, "shape": (count // 3, *shape)}
                np.lib.format.write_array_header_1_0(file, header)
                for _ in range(count // 3 * shape[0]):
                    file.write(rng.integers(0, 256, shape[1:], dtype=np.uint8).data)
        np.save(folder / "y_train.npy", labels)
        np.save(folder / "X_val.npy", np.zeros((4, *shape), np.uint8))
        np.save(folder / "y_val.npy", np.arange(4))
    comm.bcast(None)
    data = load_array_folder(folder)
    before = resident("RssAnon")
    losses = {}
    for name in ("mapped", "memory"):
        X = data["X_train"] if name == "mapped" else np.asarray(data["X_train"])
        solver = Solver(
            Brightness(),
            {**data, "X_train": X},
            preprocess=Normalization(128.0, 64.0),
            optim_config={"learning_rate": 0.1},
            batch_size=4,
            num_epochs=1,
            num_train_samples=1,
            prefetch=1,
            seed=1,
            comm=comm,
            verbose=False,
        )
        solver.train()
        losses[name] = solver.loss_history
        if name == "mapped":
            anonymous, mapped = resident("RssAnon") - before, resident_of_files(folder)
            del solver
    image = math.prod(shape)
    assert losses["mapped"] == losses["memory"]
    say(comm, folder, f"{mapped / image:.2f} of {count} images mapped, {anonymous / image:.2f} elsewhere")


class Brightness(LinearModel):
    """Sees the means of rows of pixels."""

    def __init__(self):
        super().__init__(256, 4)

    def loss(self, X, y=None):
        return super().loss(X.mean(axis=(1, 2)), y)


def resident(name):
    """Bytes of this process's memory, of a kind that the system calls `name`."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split(f"{name}:")[1].split()[0])


def resident_of_files(folder):
    """Bytes that this process has mapped of the training images in a folder, and that it has touched."""
    total, of_files = 0, False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if not line.split()[0].endswith(":"):
            of_files = f"{folder}/X_train" in line
        elif of_files and line.startswith("Rss:"):
            total += 1024 * int(line.split()[1])
    return total


def half(comm, folder):
    """Three of five epochs; the last word is rank 1's: it dies in the fourth."""

    def die(solver):
        if solver.epoch == 3 and comm.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    train_case("exact", comm, num_epochs=5, checkpoint_name=folder / "half", on_epoch=die)


def go_on(comm, folder):
    """The rest of `half`, from the newest checkpoint."""
    newest = max(folder.glob("half_epoch_*.npz"))
    say(comm, folder, f"rank {comm.rank} goes on from {newest.name}")
    solver = Solver.resume(newest, CASES["exact"][0](), digits_like(61), comm=comm)
    solver.train()
    result = result_of(solver)
    assert same_on_all(comm, result)
    if comm.rank == 0:
        np.savez(folder / f"resumed-{comm.size}.npz", **result)


class Failing(LinearModel):
    """In the third minibatch it does what it was told."""

    def __init__(self, action):
        super().__init__(36, 4)
        self.action = action

    def loss(self, X, y=None):
        if y is not None and len(self.seen) == 2:
            self.action()
        return super().loss(X, y)


def failing(comm, action, rank, data=None):
    """A run in which one rank does something out of the ordinary."""
    model = Failing(action if comm.rank == rank else lambda: None)
    data = digits_like(61) if data is None else data
    return Solver(model, data, batch_size=16, num_epochs=3, seed=1, comm=comm, verbose=False)


def raises(comm, folder):
    def action():
        raise RuntimeError("the disk has gone")

    failing(comm, action, rank=comm.size - 1).train()


def raises_outside(comm, folder):
    """While the others are waiting for it to begin."""
    solver = failing(comm, None, rank=-1)
    if comm.rank == 1:
        raise KeyError("no such column")
    solver.train()


def leaves(comm, folder):
    failing(comm, lambda: sys.exit("enough"), rank=1).train()


def vanishes(comm, folder):
    failing(comm, lambda: os._exit(0), rank=1).train()
    say(comm, folder, "trained")


def stops(comm, folder):
    """A rank that neither goes on nor ends."""
    comm = world(timeout=2)
    failing(comm, lambda: os.kill(os.getpid(), signal.SIGSTOP), rank=1).train()


def cannot_write(comm, folder):
    """Rank 0 alone writes, and all are told."""
    if comm.rank == 0:
        (folder / "file").write_text("")
    try:
        train_case("dense", comm, checkpoint_name=folder / "file" / "run" if comm.rank == 0 else None)
    except OSError as error:
        say(comm, folder, f"rank {comm.rank}: {error}")


def diverges(comm, folder):
    """One rank has an infinite loss: an ordinary exception on all of them."""
    data = digits_like(61)
    solver = failing(comm, lambda: None, rank=-1, data=data)
    if comm.rank == comm.size - 1:
        solver.model.loss = lambda X, y=None: (
            np.zeros((len(X), 4)) if y is None else (np.inf, {"weights": np.zeros((36, 4))})
        )
    try:
        solver.train()
    except FloatingPointError as error:
        say(comm, folder, f"rank {comm.rank}: {error}")


def spoiled(comm, folder):
    """One image, which falls to one of the ranks, holds a NaN."""
    data = digits_like(61)
    data["X_train"][37, 0, 2, 3] = np.nan
    try:
        Solver(dense(), data, batch_size=16, seed=1, comm=comm, verbose=False).train()
    except FloatingPointError as error:
        say(comm, folder, f"rank {comm.rank}: {error}")


def out_of_step(comm, folder):
    """Ranks that differ in one thing each; all are told which."""
    last = comm.rank == comm.size - 1
    other_label, other_image, fewer = digits_like(61), digits_like(61), digits_like(60 if last else 61)
    other_label["y_train"][17] += last
    other_image["X_val"][3, 0, 0, 0] += last
    cases = {
        "label": (dense(), other_label, {}),
        "image": (dense(), other_image, {}),
        "number": (dense(), fewer, {}),
        "rate": (dense(), digits_like(61), {"optim_config": {"learning_rate": 0.1 + last}}),
        "order": (dense(), digits_like(61), {"seed": int(last)}),
        "model": (residual(reg=0.5 if last else 0), digits_like(61), {}),
        "pixels": (dense(), digits_like(61), {"preprocess": Normalization(float(last), 1.0)}),
        "patience": (dense(), digits_like(61), {"early_stopping": 3 + last}),
    }
    for name, (model, data, settings) in cases.items():
        try:
            Solver(model, data, batch_size=16, comm=comm, **settings)
        except OutOfStepError as error:
            say(comm, folder, f"rank {comm.rank}: {name}: {error}")
    import cnnlib

    cnnlib.__version__ += ".1" if last else ""
    Solver(dense(), digits_like(61), batch_size=16, comm=comm)


def drifts(comm, folder):
    """A callback changes one rank's parameters."""

    def change(solver):
        if comm.rank == 1:
            solver.model.params["W1"] *= 1.5

    try:
        train_case("dense", comm, on_epoch=change)
    except OutOfStepError as error:
        say(comm, folder, f"rank {comm.rank}: {error}")


def ends_early(comm, folder):
    """Rank 0 decides, and alone shows how it goes and writes files."""
    solver = train_case(
        "dense",
        comm,
        verbose=True,
        checkpoint_name=folder / f"rank-{comm.rank}",
        on_epoch=lambda solver: comm.rank == 0 and solver.epoch == 2,
    )
    say(comm, folder, f"rank {comm.rank} ended after epoch {solver.epoch}")


def stops_early(comm, folder):
    """A callback changes one rank's patience; rank 0's counts."""

    def change(solver):
        if comm.rank == 1:
            solver.options = solver.options.changed(early_stopping=None)

    solver = train_case("stopped", comm, on_epoch=change)
    say(comm, folder, f"rank {comm.rank} ended after epoch {solver.epoch}")


def raw(comm, folder):
    """The Solver takes mpi4py's communicator as it is, also one with some of the ranks."""
    from mpi4py import MPI

    half = MPI.COMM_WORLD.Split(comm.rank % 2, comm.rank)
    train_case("dense", SerialComm())
    for mpi_comm in (MPI.COMM_WORLD, half):
        solver = Solver(dense(), digits_like(61), batch_size=16, num_epochs=1, comm=mpi_comm, verbose=False)
        solver.train()
        say(comm, folder, f"rank {comm.rank}: {solver.options.comm.size} ranks")
        assert (
            Solver(dense(), digits_like(61), comm=mpi_comm, verbose=False).options.comm is solver.options.comm
        )


def too_many(comm, folder):
    for settings in ({"batch_size": 3}, {"batch_size": 16, "micro_batches": 2}):
        try:
            Solver(dense(), digits_like(61), comm=comm, **settings)
        except ValueError as error:
            say(comm, folder, f"rank {comm.rank}: {error}")


if __name__ == "__main__":
    comm, names = world(), sys.argv[1].split(",")
    for name in names:
        folder = Path(sys.argv[2], name if len(names) > 1 else "")
        folder.mkdir(exist_ok=True)
        globals()[name](comm, folder)
