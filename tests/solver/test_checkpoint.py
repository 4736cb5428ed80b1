import json
import os
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from cnnlib.checkpoint import load_checkpoint, save_checkpoint
from cnnlib.models import ConvNet, FullyConnectedNet, ThreeLayerConvNet
from cnnlib.solver import Solver, load_weights
from training import LinearModel, assert_same_bits, digits_like, quiet_solver, running_statistics, trained
from wrong_statistics import WRONG_STATISTICS, altered

pytestmark = pytest.mark.windows

PARAMS = {
    "W": np.arange(6.0).reshape(2, 3),
    "file": np.float32([1, 2]),
    "a/b": np.zeros((0, 3)),
    "s": np.array(3.0),
}
STATE = {
    "t": 3,
    "rates": [1e-3, float("inf"), None, True, "text"],
    "pair": (1, (2.5, np.arange(3))),
    "big": 2**100,
    "optim": {"a": {"b/c": np.ones(2)}, "a/b": {"c": np.zeros(2)}},
    "scalar": np.float32(0.1),
    "no dimension": np.array(0.5),
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "new folder" / "run_epoch_1.npz"
    save_checkpoint(PARAMS, path, STATE)
    return path


@pytest.fixture
def solver_file(tmp_path):
    model = FullyConnectedNet((6,), input_dim=36, num_classes=4, use_batchnorm=True, seed=0)
    solver = trained(model, digits_like(), update_rule="adam", checkpoint_name=tmp_path / "run", seed=1)
    return str(tmp_path / "run_epoch_2.npz"), solver


def test_round_trip(path):
    params, state = load_checkpoint(path)
    assert_same_bits(params, PARAMS)
    assert_same_bits(state, STATE)


def test_np_load_reads_it_without_pickle(path):
    with np.load(path, allow_pickle=False) as file:
        for name, value in PARAMS.items():
            assert_same_bits(file[name], value)
        others = set(file.files) - set(PARAMS)
        assert all(name.startswith("__cnnlib__/") for name in others)
        for name in others:
            assert file[name].dtype.kind != "O"
        assert json.loads(str(file["__cnnlib__/state"]))["state"]["t"] == 3


def test_permissions_follow_the_umask(path):
    other = path.parent / "other"
    other.touch()
    assert path.stat().st_mode == other.stat().st_mode


@pytest.mark.parametrize("where", ["write_array", "fsync", "replace"])
def test_failed_write_leaves_nothing_behind(where, path, monkeypatch):
    before = path.read_bytes()

    def fail(*args, **kwargs):
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(np.lib.format if where == "write_array" else os, where, fail)
        for target in (path, path.with_name("run_epoch_2.npz")):
            with pytest.raises(OSError, match="no space left"):
                save_checkpoint(PARAMS, target, {"t": 4})
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert path.read_bytes() == before


def test_interrupted_write_leaves_nothing_behind(path, monkeypatch):
    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(PARAMS, path.with_name("other.npz"), {})
    assert [file.name for file in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["__cnnlib__/state", "", "a\0b", 3])
def test_refuses_reserved_names(name, tmp_path):
    with pytest.raises(ValueError, match="parameter names must be"):
        save_checkpoint({name: np.zeros(1)}, tmp_path / "x.npz", {})


def test_refuses_what_needs_pickle(tmp_path):
    with pytest.raises(ValueError, match="dtype object, which needs pickle"):
        save_checkpoint({"W": np.array([None])}, tmp_path / "x.npz", {})
    with pytest.raises(ValueError, match="config/f is a set, which cannot be stored without pickle"):
        save_checkpoint({}, tmp_path / "x.npz", {"config": {"f": set()}})
    assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_refused_by_name(solver_file, tmp_path):
    """Cut short or with a flipped byte at many places: the error names the file, or nothing was lost."""
    path, _ = solver_file
    good = load_checkpoint(path)
    content = Path(path).read_bytes()
    damaged = tmp_path / "damaged.npz"
    refused = 0
    rng = np.random.RandomState(0)
    for cut in rng.randint(len(content), size=40):
        damaged.write_bytes(content[:cut])
        with pytest.raises(ValueError, match=r"damaged\.npz"):
            load_checkpoint(damaged)
    for place in rng.randint(len(content), size=200):
        damaged.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            loaded = load_checkpoint(damaged)
        except ValueError as error:
            assert "damaged.npz" in str(error)  # noqa: PT017
            refused += 1
        else:  # a byte that means nothing, such as a time stamp
            assert_same_bits(loaded, good)
    assert refused > 150


def test_bytes_missing_in_the_middle(solver_file, tmp_path):
    """The zip's directory, at the end, then leads to places before the start of the file."""
    content = Path(solver_file[0]).read_bytes()
    damaged = tmp_path / "damaged.npz"
    for missing in (1, 100, len(content) // 2, len(content) - 5000):
        damaged.write_bytes(content[:50] + content[50 + missing :])
        with pytest.raises(ValueError, match=r"damaged\.npz is damaged"):
            load_checkpoint(damaged)


def peak_of_refusal(path):
    """The most memory that was taken to find out that `path` is no good."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=path.name):
            load_checkpoint(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_is_bounded_by_the_files_size(tmp_path):
    np.savez_compressed(tmp_path / "bomb.npz", W=np.zeros(10_000_000))
    claims = tmp_path / "claims.npz"
    with zipfile.ZipFile(claims, "w") as archive, archive.open("W.npy", "w") as entry:
        header = {"shape": (10_000_000,), "fortran_order": False, "descr": "<f8"}
        np.lib.format.write_array_header_1_0(entry, header)
        entry.write(bytes(800))
    np.savez(tmp_path / "good.npz", W=np.zeros(10))
    content = (tmp_path / "good.npz").read_bytes()
    size, huge = (128 + 80).to_bytes(4, "little"), (1 << 30).to_bytes(4, "little")
    place = content.rindex(size * 2)  # the size as stored and as read, in the zip's directory
    stored, read = tmp_path / "stored.npz", tmp_path / "read.npz"
    for path, sizes in ((stored, huge + size), (read, huge * 2)):
        path.write_bytes(content[:place] + sizes + content[place + len(sizes) :])
    for path in (tmp_path / "bomb.npz", claims, stored, read):
        assert peak_of_refusal(path) < 3_000_000


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"format": "cnnlib checkpoint", "version": 1, "params": 3}']
)
def test_odd_states(text, tmp_path):
    np.savez(tmp_path / "odd.npz", **{"__cnnlib__/state": np.array(text)})
    with pytest.raises(ValueError, match=r"odd\.npz is damaged"):
        load_checkpoint(tmp_path / "odd.npz")


def damaged_states(state, place=()):
    """Copies of a Solver's state in which something is missing or of another kind, and where it is."""
    for key, value in state.items():
        yield (*place, key), {name: item for name, item in state.items() if name != key}
        yield (*place, key), {**state, key: "x"}
        if isinstance(value, dict):
            yield from (
                (where, {**state, key: damaged}) for where, damaged in damaged_states(value, (*place, key))
            )


def test_a_damaged_state_is_refused_or_serves(solver_file, tmp_path):
    """Whatever is wrong in a checkpoint's content, there is an error that names the file, or none at all."""
    path, _ = solver_file
    params, state = load_checkpoint(path)
    damaged, refused, served = tmp_path / "damaged.npz", 0, set()
    data = digits_like()
    for place, content in damaged_states(state):
        save_checkpoint(params, damaged, content)
        model = FullyConnectedNet((6,), input_dim=36, num_classes=4, use_batchnorm=True)
        try:
            Solver.resume(damaged, model, data)
        except ValueError as error:
            assert "damaged.npz" in str(error)  # noqa: PT017
            refused += 1
        else:
            served.add(place)
    assert refused > 60
    # Any text is a name; a rule checks its own settings and its state.
    named = {("settings", "checkpoint_name"), ("settings", "verbose")}
    assert {place for place in served if place[0] == "settings" or len(place) == 2} <= named


@pytest.mark.parametrize("part", ["settings", "run"])
def test_a_checkpoint_that_lacks_something_is_refused(part, solver_file, tmp_path):
    """No value stands in for what is missing."""
    params, state = load_checkpoint(solver_file[0])
    for name in state[part]:
        lacking = {**state, part: {key: value for key, value in state[part].items() if key != name}}
        save_checkpoint(params, tmp_path / "lacking.npz", lacking)
        model = FullyConnectedNet((6,), input_dim=36, num_classes=4, use_batchnorm=True)
        with pytest.raises(ValueError, match=rf"lacking\.npz.* lacks? {name}$"):
            Solver.resume(tmp_path / "lacking.npz", model, digits_like())


@pytest.mark.parametrize("version", [0, 2, 99, "1", True, None])
def test_another_version_is_refused(version, tmp_path):
    """The message names the file, its version, and the one that is read."""
    path = tmp_path / "another.npz"
    content = {"format": "cnnlib checkpoint", "version": version, "params": [], "state": {}}
    np.savez(path, **{"__cnnlib__/state": np.array(json.dumps(content))})
    for call in (lambda: load_checkpoint(path), lambda: load_weights(path, LinearModel(36, 4))):
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            call()
        assert str(caught.value) == (
            f"{path} is a cnnlib checkpoint of version {version!r}, and this cnnlib reads version 1"
        )


def foreign_files(folder):
    (folder / "empty.npz").write_bytes(b"")
    (folder / "text.npz").write_text("not a zip")
    np.savez(folder / "arrays.npz", W=np.zeros(2))
    np.save(folder / "array.npy", np.zeros(2))
    with zipfile.ZipFile(folder / "zip.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
    with open(folder / "pickle.npz", "wb") as file:
        np.savez(file, W=np.array([None], dtype=object))
    np.savez(folder / "json.npz", **{"__cnnlib__/state": np.array("[1, 2]")})
    state = json.dumps({"format": "another program's", "version": 1, "params": [], "state": {}})
    np.savez(folder / "another.npz", **{"__cnnlib__/state": np.array(state)})
    save_checkpoint({}, folder / "other.npz", {"hello": 1})


@pytest.mark.parametrize(
    "name", ["empty", "text", "arrays", "array.npy", "zip", "pickle", "json", "another", "other", "absent"]
)
def test_a_foreign_file_is_refused_by_name(name, tmp_path):
    foreign_files(tmp_path)
    path = tmp_path / (name if "." in name else name + ".npz")
    model = LinearModel(36, 4)
    for call in (lambda: Solver.resume(path, model, digits_like()), lambda: load_weights(path, model)):
        with pytest.raises((ValueError, OSError)) as caught:
            call()
        assert path.name in str(caught.value)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (FullyConnectedNet((6,), input_dim=36, num_classes=4), "has the parameters"),
        (FullyConnectedNet((7,), input_dim=36, num_classes=4, use_batchnorm=True), "W1 is"),
        (
            FullyConnectedNet((6,), input_dim=36, num_classes=4, use_batchnorm=True, dtype=np.float64),
            "float64",
        ),
        (ThreeLayerConvNet((1, 6, 6)), "has the parameters"),
    ],
)
def test_another_model_is_refused_and_left_alone(model, message, solver_file):
    path, _ = solver_file
    before = {name: value.copy() for name, value in model.params.items()}
    for call in (lambda: Solver.resume(path, model, digits_like()), lambda: load_weights(path, model)):
        with pytest.raises(ValueError, match=message) as caught:
            call()
        assert path in str(caught.value)
    assert_same_bits(model.params, before)


@pytest.mark.parametrize("snapshot", ["last", "best", "average"])
@pytest.mark.parametrize("case", WRONG_STATISTICS)
def test_wrong_statistics_are_refused_by_the_files_name(case, snapshot, tmp_path):
    change, message = WRONG_STATISTICS[case]

    def net():
        return FullyConnectedNet((6,), input_dim=36, num_classes=4, use_batchnorm=True)

    trained(net(), digits_like(), ema_decay=0.9, checkpoint_name=tmp_path / "run", seed=1)
    path = tmp_path / "run_epoch_2.npz"
    params, content = load_checkpoint(path)
    holder = content["run"] if snapshot == "last" else content["run"][snapshot]
    holder["bn_params"]["0"] = altered(holder["bn_params"]["0"], change)
    save_checkpoint(params, path, content)
    model = net()
    before = running_statistics(model)
    for call in (lambda: Solver.resume(path, model, digits_like()), lambda: load_weights(path, model)):
        with pytest.raises(ValueError, match=rf"run_epoch_2\.npz: bn_params 0:? {message}"):
            call()
    assert_same_bits(running_statistics(model), before)


def test_a_snapshot_of_more_parts_is_refused(solver_file):
    path, _ = solver_file
    params, content = load_checkpoint(path)
    content["run"]["best"]["statistics"] = {}
    save_checkpoint(params, path, content)
    model = FullyConnectedNet((6,), input_dim=36, num_classes=4, use_batchnorm=True)
    with pytest.raises(ValueError, match=r"run_epoch_2\.npz: a snapshot has no part 'statistics'"):
        load_weights(path, model)


def test_the_statistics_of_a_network(tmp_path):
    net = FullyConnectedNet((6,), input_dim=36, num_classes=4, use_batchnorm=True)
    path = tmp_path / "net.npz"
    net.save(path)
    params, content = load_checkpoint(path)
    content["bn_params"]["0"]["running_mean"] = np.array(["a"] * 6)
    save_checkpoint(params, path, content)
    with pytest.raises(ValueError, match=r"net\.npz: bn_params 0: running_mean must be real numbers"):
        net.load(path)


class NormedModel(LinearModel):
    """A user's model that makes its statistics at its first step."""

    def __init__(self):
        super().__init__(36, 4)
        self.bn_params = {"norm": {"eps": 1e-5}}

    def loss(self, X, y=None):
        if y is not None:
            self.bn_params["norm"]["running_mean"] = np.full(3, np.mean(X))
        return super().loss(X, y)


def test_a_users_model_may_make_its_statistics_late(tmp_path):
    trained(NormedModel(), digits_like(), checkpoint_name=tmp_path / "run", seed=1)
    path, model = tmp_path / "run_epoch_2.npz", NormedModel()
    load_weights(path, model, "last")
    assert model.bn_params["norm"]["running_mean"].shape == (3,)
    params, content = load_checkpoint(path)
    content["run"]["bn_params"]["norm"]["running_mean"] = np.array(["a"])
    save_checkpoint(params, path, content)
    with pytest.raises(
        ValueError, match=r"run_epoch_2\.npz: bn_params norm: running_mean must be real numbers"
    ):
        Solver.resume(path, NormedModel(), digits_like())


@pytest.mark.parametrize("which", ["best", "last"])
def test_load_weights(which, solver_file):
    path, solver = solver_file
    model = FullyConnectedNet((6,), input_dim=36, num_classes=4, use_batchnorm=True, seed=9)
    load_weights(path, model, which)
    assert_same_bits(model.params, solver.best_params if which == "best" else solver.last_params)
    if which == "best":
        X = digits_like()["X_val"]
        np.testing.assert_array_equal(model.loss(X), solver.model.loss(X))
    with pytest.raises(ValueError, match="which must be"):
        load_weights(path, model, "first")


def test_weights_of_a_run_that_trained_other_parameters(tmp_path):
    """What was frozen, and a stream of the model's own, have no part in its weights."""

    def net(seed):
        return ConvNet([{"affine": 5}, "relu"], 36, 4, seed=seed)

    model, data = net(0), digits_like()
    data = {name: part.reshape(len(part), -1) if name[0] == "X" else part for name, part in data.items()}
    model.freeze("W1", "b1")
    model.rng = np.random.RandomState(0)
    quiet_solver(model, data, num_epochs=1, checkpoint_name=tmp_path / "run").train()
    other, path = net(1), tmp_path / "run_epoch_1.npz"
    load_weights(path, other)
    assert_same_bits(other.params, model.params)
    with pytest.raises(ValueError, match="the run trained W2, b2, the model trains W1, b1, W2, b2: freeze"):
        Solver.resume(path, other, data)
