"""Models in files: what comes back, and what is refused."""

import copy
import json
import re
import tracemalloc
from pathlib import Path

import cnnlib
import numpy as np
import pytest
from cnnlib.checkpoint import load_checkpoint, save_checkpoint
from cnnlib.course import keep_ratio
from cnnlib.data import Normalization
from cnnlib.graph.graph import Graph, Node
from cnnlib.models import ConvNet, FullyConnectedNet, GraphNet, ThreeLayerConvNet
from cnnlib.saved_model.model_file import is_saved_model, read_model
from cnnlib.solver import Solver
from training import assert_same_bits, digits_like, quiet_solver, running_statistics
from wrong_statistics import WRONG_STATISTICS, altered

SPEC = [
    {"conv": 4, "size": (3, 2), "bias": True},
    "batchnorm",
    {"leaky_relu": 0.1},
    {"residual": [{"conv": 4}, "batchnorm"]},
    {"dropout": 0.2},
    "global_avg_pool",
]
MODELS = {
    "ConvNet": lambda: ConvNet(SPEC, (1, 6, 6), 4, reg=0.01, seed=3),
    "named spec": lambda: ConvNet("resnet8", (1, 6, 6), 4, dtype=np.float64),
    "whitened": lambda: ConvNet(
        [{"conv": 8, "size": 2, "init": "whiten", "frozen": "filters"}, "relu"], (1, 6, 6), 4
    ),
    "ThreeLayerConvNet": lambda: ThreeLayerConvNet(
        (1, 6, 6),
        num_filters=3,
        filter_size=3,
        hidden_dim=5,
        num_classes=4,
        use_batchnorm=True,
        weight_scale=0.1,
    ),
    "FullyConnectedNet": lambda: FullyConnectedNet(
        iter([7, 6]), input_dim=(1, 6, 6), num_classes=4, dropout=0.3, use_batchnorm=True, seed=np.int64(5)
    ),
    "keep_ratio": lambda: keep_ratio.FullyConnectedNet(
        [7, 6], (1, 6, 6), 4, dropout=0.7, normalization="batchnorm", seed=5
    ),
    "GraphNet": lambda: graph_net(),
    "linear": lambda: FullyConnectedNet((), 36, np.int32(4), dtype="float64"),
}


def graph_net():
    """Two branches, with what a graph's description has to keep: pairs, numbers, a bias that is not there."""
    graph, rng = Graph(), np.random.default_rng(0)
    params = {"W1": rng.standard_normal((3, 1, 3, 3)), "b1": np.zeros(3), "W2": rng.standard_normal((54, 4))}
    params |= {name: np.ones(3) for name in ("g1", "h1", "g2", "h2")}
    graph.append(Node("conv", ("input",), "a", ("W1", "b1"), ({"pad": ((1, 1), (1, 1))},), "stem"))
    graph.append(Node("spatial_batchnorm", ("a",), "n", ("g1", "h1"), ({"mode": "train", "eps": 1e-3},)))
    graph.append(Node("leaky_relu", ("n",), "l", (), (0.2,)))
    graph.append(Node("spatial_batchnorm", ("a",), "m", ("g2", "h2"), ({"mode": "train", "momentum": 0.5},)))
    graph.append(Node("dropout", ("m",), "d", (), ({"p": 0.3, "mode": "train"},)))
    graph.append(Node("concat", ("d", "l"), "c"))
    graph.append(Node("max_pool", ("c",), "p", (), ({"pool_height": 2, "pool_width": 2},)))
    graph.append(Node("affine", ("p",), "scores", ("W2", None)))
    return GraphNet(graph, params, (1, 6, 6), frozen=("h1",), reg=0.01, seed=7)


NORMALIZE = Normalization((0.3,), (0.7,), white=1)


@pytest.fixture(params=MODELS)
def trained(request):
    model = MODELS[request.param]()
    quiet_solver(
        model, digits_like(), update_rule="adam", seed=0, preprocess=NORMALIZE, label_smoothing=0.1
    ).train()
    return model


@pytest.fixture
def saved(tmp_path):
    """A small model's file."""
    model = MODELS["ConvNet"]()
    quiet_solver(model, digits_like(), seed=0).train()
    path = tmp_path / "model.npz"
    model.save(path, preprocess=NORMALIZE, classes="abcd")
    return path


class TestRoundTrip:
    def test_everything_comes_back(self, trained, tmp_path):
        X = digits_like()["X_val"]
        trained.save(tmp_path / "m", preprocess=NORMALIZE, classes=["a", "b b", "ç", "d"])
        loaded = cnnlib.load(tmp_path / "m")
        assert type(loaded) is type(trained)
        assert_same_bits(loaded.params, trained.params)
        assert_same_bits(running_statistics(loaded), running_statistics(trained))
        assert_same_bits(loaded.loss(X), trained.loss(X))
        assert loaded.label_smoothing == 0.1
        assert loaded.reg == trained.reg
        assert loaded.dtype == trained.dtype
        assert loaded.preprocess == NORMALIZE
        assert loaded.classes == ("a", "b b", "ç", "d")
        assert getattr(loaded, "frozen", ()) == getattr(trained, "frozen", ())

    def test_no_label_smoothing_may_be_an_integer(self, tmp_path):
        model = MODELS["ConvNet"]()
        model.label_smoothing = 0
        model.save(tmp_path / "m")
        assert cnnlib.load(tmp_path / "m").label_smoothing == 0

    def test_training_goes_on_alike(self, trained, tmp_path):
        trained.save(tmp_path / "m")
        loaded = cnnlib.load(tmp_path / "m")
        for model in (trained, loaded):
            quiet_solver(model, digits_like(), seed=4).train()
        assert_same_bits(loaded.params, trained.params)

    def test_a_loaded_model_keeps_what_belongs_to_it(self, saved, tmp_path):
        cnnlib.load(saved).save(tmp_path / "again.npz")
        again = cnnlib.load(tmp_path / "again.npz")
        assert (again.preprocess, again.classes) == (NORMALIZE, tuple("abcd"))

    def test_nothing_belongs_to_it(self, tmp_path):
        MODELS["linear"]().save(tmp_path / "m.npz")
        loaded = cnnlib.load(tmp_path / "m.npz")
        assert (loaded.preprocess, loaded.classes) == (None, None)

    @pytest.mark.parametrize("name", ["named spec", "ThreeLayerConvNet", "linear"])
    def test_no_random_number_is_drawn(self, tmp_path, name):
        """So that a run that np.random governs goes the same way whether it is saved or not."""
        model = MODELS[name]()
        np.random.seed(1)
        model.save(tmp_path / "m.npz")
        loaded = cnnlib.load(tmp_path / "m.npz")
        drawn = np.random.rand()
        np.random.seed(1)
        assert drawn == np.random.rand()
        assert loaded.seed is loaded.arguments["seed"] is None

    def test_a_changed_reg_counts(self, tmp_path):
        model = MODELS["ConvNet"]()
        model.reg = 0.5
        model.save(tmp_path / "m.npz")
        assert cnnlib.load(tmp_path / "m.npz").reg == 0.5

    def test_the_callers_spec_may_change(self, tmp_path):
        spec = [{"conv": 4}, "relu"]
        model = ConvNet(spec, (1, 6, 6), 4)
        spec[0]["conv"] = 9
        model.save(tmp_path / "m.npz")
        assert cnnlib.load(tmp_path / "m.npz").params["W1"].shape[0] == 4

    def test_numpy_reads_the_parameters(self, saved):
        with np.load(saved, allow_pickle=False) as file:
            assert_same_bits(file["W1"], cnnlib.load(saved).params["W1"])


class TestRefused:
    def test_cut_short_or_with_a_wrong_byte(self, saved, tmp_path):
        content, damaged = saved.read_bytes(), tmp_path / "damaged.npz"
        want = cnnlib.load(saved)
        rng = np.random.RandomState(0)
        refused = 0
        for cut in rng.randint(len(content), size=30):
            damaged.write_bytes(content[:cut])
            with pytest.raises(ValueError, match=r"damaged\.npz"):
                cnnlib.load(damaged)
            assert not is_saved_model(damaged)
        for place in rng.randint(len(content), size=150):
            damaged.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
            try:
                loaded = cnnlib.load(damaged)
            except ValueError as error:
                assert "damaged.npz" in str(error)  # noqa: PT017
                refused += 1
            else:  # a byte that means nothing, such as a time stamp
                assert_same_bits(loaded.params, want.params)
        assert refused > 100

    @pytest.mark.parametrize(
        ("part", "value"),
        [
            ("model", None),
            ("model", {"class": "ConvNet"}),
            ("model", {"class": "Other", "arguments": {}}),
            ("model", {"class": ["ConvNet"], "arguments": {}}),
            ("model/arguments", {}),
            ("model/arguments", 3),
            ("model/arguments/spec", "no such spec"),
            ("model/arguments/spec", [{"conv": "x"}]),
            ("model/arguments/input_dim", (1, 7, 7, 7)),
            ("model/arguments/num_classes", 5),
            ("model/arguments/num_classes", None),
            ("model/arguments/dtype", "float16"),
            ("model/arguments/dtype", "nonsense"),
            ("model/arguments/surplus", 1),
            ("bn_params", {}),
            ("bn_params", None),
            ("loss_name", "mesh"),
            ("loss_name", {"scores": "mse"}),
            ("label_smoothing", 1.0),
            ("label_smoothing", "x"),
            ("preprocess", {"name": "normalization", "mean": (0.0,)}),
            ("preprocess", {"name": "normalization", "mean": (0.0,), "std": (0.0,)}),
            ("preprocess", {"name": "other"}),
            ("preprocess", 3),
            ("classes", ("a", "b")),
            ("classes", (1, 2, 3, 4)),
            ("classes", 7),
        ],
        ids=str,
    )
    def test_altered_content(self, saved, tmp_path, part, value):
        params, content = load_checkpoint(saved)
        *path, last = part.split("/")
        place = content
        for name in path:
            place = place[name]
        place[last] = value
        save_checkpoint(params, tmp_path / "altered.npz", content)
        with pytest.raises(ValueError, match=r"altered\.npz"):
            cnnlib.load(tmp_path / "altered.npz")

    @pytest.mark.parametrize(
        ("place", "value"),
        [
            ((), None),
            (("nodes",), 3),
            (("nodes",), []),
            (("nodes", 0), ["conv"]),
            (("nodes", 0, 0), "convolution"),
            (("nodes", 0, 0), ["conv"]),
            (("nodes", 0, 1), (["input"],)),
            (("nodes", 0, 1), ("nowhere",)),
            (("nodes", 0, 3), ("W9", "b1")),
            (("nodes", 0, 3), ("W2", "b1")),
            (("nodes", 0, 3), None),
            (("nodes", 0, 4), ({"pad": 10**12},)),
            (("nodes", 0, 4), 7),
            (("nodes", 1, 4), 7),
            (("nodes", 1, 4), "x"),
            (("nodes", 4, 4), ()),
            (("nodes", 4, 4), ({"p": 2, "mode": "train"},)),
            (("output",), "nowhere"),
            (("output",), "a"),
            (("input",), 3),
            (("bn_params",), []),
            (("bn_params",), [3, 4]),
        ],
        ids=str,
    )
    def test_altered_graphs(self, tmp_path, place, value):
        graph_net().save(tmp_path / "m.npz")
        params, content = load_checkpoint(tmp_path / "m.npz")
        part, last = content["model"], "graph"
        for step in place:
            part, last = part[last], step
        part[last] = value
        save_checkpoint(params, tmp_path / "altered.npz", content)
        with pytest.raises(ValueError, match=r"altered\.npz"):
            cnnlib.load(tmp_path / "altered.npz")

    def test_altered_parameters(self, saved, tmp_path):
        params, content = load_checkpoint(saved)
        for name, value in (("W1", params["W1"][:2]), ("b1", params["b1"].astype(np.float64))):
            save_checkpoint({**params, name: value}, tmp_path / "altered.npz", content)
            with pytest.raises(ValueError, match=rf"altered\.npz was written for another model: its {name}"):
                cnnlib.load(tmp_path / "altered.npz")

    @pytest.mark.parametrize("case", WRONG_STATISTICS)
    def test_altered_statistics(self, tmp_path, case):
        change, message = WRONG_STATISTICS[case]
        path = tmp_path / "altered.npz"
        FullyConnectedNet([6], 36, 4, use_batchnorm=True).save(path)
        params, content = load_checkpoint(path)
        content["bn_params"]["0"] = altered(content["bn_params"]["0"], change)
        save_checkpoint(params, path, content)
        with pytest.raises(ValueError, match=rf"altered\.npz: bn_params 0:? {message}"):
            cnnlib.load(path)

    def test_statistics_of_any_float(self, tmp_path):
        path = tmp_path / "m.npz"
        model = FullyConnectedNet([6], 36, 4, use_batchnorm=True)
        model.bn_params[0] |= {"running_mean": np.full(6, np.nan), "running_var": np.ones(6, np.float16)}
        model.save(path)
        assert_same_bits(running_statistics(cnnlib.load(path)), running_statistics(model))

    @pytest.mark.parametrize("value", [None, [0.0] * 6], ids=["None", "a list"])
    def test_statistics_that_no_file_would_hold(self, tmp_path, value):
        model = FullyConnectedNet([6], 36, 4, use_batchnorm=True)
        model.bn_params[0]["running_mean"] = value
        with pytest.raises(ValueError, match=r"Net\.save: the model: bn_params 0 lacks running_mean"):
            model.save(tmp_path / "m.npz")
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ("spec", "input_dim"),
        [([{"affine": 2**23}], 3), ([{"conv": 2**23, "size": 1}], (1, 6, 6)), (["batchnorm"], (2**23, 1, 1))],
        ids=["affine", "conv", "batchnorm"],
    )
    def test_sizes_are_not_believed(self, saved, tmp_path, spec, input_dim):
        params, content = load_checkpoint(saved)
        content["model"]["arguments"] |= {"spec": spec, "input_dim": input_dim}
        save_checkpoint(params, tmp_path / "altered.npz", content)
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match=r"altered\.npz is damaged.* more than \d+ values"):
                cnnlib.load(tmp_path / "altered.npz")
            assert tracemalloc.get_traced_memory()[1] < 2**24
        finally:
            tracemalloc.stop()

    def test_foreign_files(self, saved, tmp_path):
        np.savez(tmp_path / "foreign.npz", W1=np.zeros(3))
        (tmp_path / "text.npz").write_text("text")
        quiet_solver(MODELS["ConvNet"](), digits_like(), checkpoint_name=tmp_path / "run").train()
        save_checkpoint({}, tmp_path / "other.npz", {"t": 1})
        for name, message in (
            ("foreign.npz", "is not a cnnlib checkpoint"),
            ("text.npz", "is damaged, or not a checkpoint"),
            ("run_epoch_2.npz", "is a Solver's checkpoint, which load_weights reads"),
            ("other.npz", "is no saved model"),
        ):
            with pytest.raises(ValueError, match=rf"{re.escape(str(tmp_path / name))} {message}"):
                read_model(tmp_path / name)
            assert not is_saved_model(tmp_path / name)
        with pytest.raises(FileNotFoundError):
            cnnlib.load(tmp_path / "nothing.npz")
        with pytest.raises(ValueError, match=r"model\.npz is no checkpoint of a Solver"):
            Solver.resume(saved, MODELS["ConvNet"](), digits_like())

    def test_no_pickle(self, saved, tmp_path):
        """A file whose arrays are pickled objects."""
        with np.load(saved) as file:
            arrays = dict(file)
        arrays["W1"] = np.array([{}], dtype=object)
        np.savez(tmp_path / "pickled.npz", **arrays)
        with pytest.raises(ValueError, match=r"pickled\.npz is damaged"):
            cnnlib.load(tmp_path / "pickled.npz")

    def test_another_version(self, saved, tmp_path):
        with np.load(saved) as file:
            arrays = dict(file)
        tree = json.loads(str(arrays["__cnnlib__/state"]))
        arrays["__cnnlib__/state"] = np.array(json.dumps({**tree, "version": 2}))
        np.savez(tmp_path / "new.npz", **arrays)
        for read in (read_model, cnnlib.load):
            with pytest.raises(ValueError, match=r"new\.npz is a cnnlib checkpoint of version 2, and"):
                read(tmp_path / "new.npz")

    def test_a_part_that_is_missing(self, tmp_path):
        graph_net().save(tmp_path / "net.npz")
        params, content = load_checkpoint(tmp_path / "net.npz")
        for part in (("head",), ("graph", "outputs"), ("graph", "fixed_by")):
            altered = copy.deepcopy(content)
            held = altered["model"] if len(part) == 1 else altered["model"][part[0]]
            del held[part[-1]]
            save_checkpoint(params, tmp_path / "altered.npz", altered)
            with pytest.raises(ValueError, match=rf"altered\.npz is damaged: '{part[-1]}'"):
                cnnlib.load(tmp_path / "altered.npz")

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"preprocess": lambda X: X / 255}, TypeError, "preprocess must be a cnnlib.data.Normalization"),
            ({"preprocess": 3}, TypeError, "preprocessing must be a name"),
            (
                {"classes": "abc"},
                ValueError,
                r"save: the list of classes has 3 names, the model has 4 classes",
            ),
            ({"classes": [1, 2, 3, 4]}, TypeError, "must hold names"),
        ],
    )
    def test_what_cannot_be_saved(self, tmp_path, options, error, message):
        with pytest.raises(error, match=message):
            MODELS["linear"]().save(tmp_path / "m.npz", **options)
        assert not list(tmp_path.iterdir())

    def test_models_of_the_users_own(self, tmp_path):
        class Mine(ConvNet):
            """Whose loss nobody knows."""

        with pytest.raises(TypeError, match=r"Mine\.save: .* got a Mine of your own; cnnlib\.checkpoint"):
            Mine("resnet8").save(tmp_path / "m.npz")

    def test_parameters_that_do_not_fit(self, tmp_path):
        model = MODELS["linear"]()
        model.params["W1"] = model.params["W1"].astype(np.float32)
        with pytest.raises(ValueError, match=r"Net\.save: the model was written for another model: its W1"):
            model.save(tmp_path / "m.npz")
        assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_older_file(saved, monkeypatch):
    before = saved.read_bytes()

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="no space left"):
        cnnlib.load(saved).save(saved)
    assert saved.read_bytes() == before
    assert [path.name for path in Path(saved).parent.iterdir()] == ["model.npz"]
