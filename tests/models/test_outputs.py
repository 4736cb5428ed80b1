"""Networks with several outputs: their loss and gradients, prepared, in files, trained by a Solver."""

from typing import ClassVar

import cnnlib
import numpy as np
import pytest
from cnnlib import layers
from cnnlib.augment import augmented, build_augmentation
from cnnlib.cli.run.trained import open_trained
from cnnlib.data import Normalization
from cnnlib.data.targets import Targets
from cnnlib.gradient_check import eval_numerical_gradient, rel_error
from cnnlib.models import Graph, GraphNet, Node, WeightedLosses
from cnnlib.solver import Solver
from helpers import assert_gradients
from several_outputs import LOSSES, WEIGHTS, several_graph, several_outputs, targets_of, with_targets
from training import assert_same_bits, assert_same_run, digits_like, quiet_solver, trained

DTYPES = [np.float32, np.float64]


@pytest.fixture
def batch():
    data = digits_like()
    X = data["X_val"]
    return X, targets_of(X, data["y_val"])


def by_hand(outputs, y):
    """The loss of `several_outputs`, and its gradient by each output."""
    label, dlabel = layers.softmax_loss(outputs["label"], y["label"])
    size, dsize = layers.huber_loss(outputs["size"], y["size"].astype(outputs["size"].dtype), 0.7)
    mask, dmask = layers.softmax_loss(outputs["mask"], y["mask"], ignore=9)
    return label + 0.3 * size + 2.0 * mask, {"label": dlabel, "size": 0.3 * dsize, "mask": 2.0 * dmask}


class TestLoss:
    def test_outputs_come_by_name_in_their_order(self, batch):
        out = several_outputs().loss(batch[0])
        assert {name: values.shape for name, values in out.items()} == {
            "label": (20, 4),
            "size": (20, 1),
            "mask": (20, 2, 6, 6),
        }
        assert list(out) == ["label", "size", "mask"]

    @pytest.mark.parametrize("dtype", DTYPES)
    def test_is_the_sum_of_networks_of_one_output(self, dtype, batch):
        X, y = batch
        net = several_outputs(dtype)
        loss, grads = net.loss(X, y)
        total, sums = 0.0, {}
        for name in net.outputs:
            # The other outputs' gradients are 0; this one's is what its own loss has.
            single = several_outputs(dtype).cut(name)
            single.criterion = lambda scores, y, name=name: _part(name, scores, y)
            value, own = single.loss(X, y[name])
            total += value
            for key, dw in own.items():
                sums[key] = sums.get(key, 0) + dw
        tolerance = 1e-5 if dtype == np.float32 else 1e-12
        assert loss == pytest.approx(total, rel=tolerance)
        assert sums.keys() == grads.keys()
        for key, dw in sums.items():
            assert grads[key].dtype == dtype
            np.testing.assert_allclose(grads[key], dw, rtol=tolerance, atol=tolerance, err_msg=key)

    def test_numeric_gradients(self, batch):
        assert_gradients(several_outputs(losses=LOSSES, loss_weights=WEIGHTS, reg=0.1), *batch, rtol=1e-6)

    @pytest.mark.peers
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_pytorch_agrees(self, dtype, batch):
        torch = pytest.importorskip("torch")
        F = torch.nn.functional
        X, y = batch
        net = several_outputs(dtype, norm=False)
        loss, grads = net.loss(X, y)
        w = {name: torch.tensor(value, requires_grad=True) for name, value in net.params.items()}
        trunk = F.relu(F.conv2d(torch.tensor(X.astype(dtype)), w["W1"], w["b1"], padding=1))
        pooled = trunk.mean((2, 3))
        label = pooled @ w["W3"] + w["b3"]
        size = torch.cat([pooled, label], 1) @ w["W4"] + w["b4"]
        mask = F.conv2d(trunk, w["W2"], w["b2"], padding=1)
        want = F.cross_entropy(label, torch.tensor(y["label"]))
        want = want + 0.3 * F.huber_loss(size, torch.tensor(y["size"].astype(dtype)), delta=0.7)
        want = want + 2.0 * F.cross_entropy(mask, torch.tensor(y["mask"]), ignore_index=9)
        want.backward()
        tolerance = 2e-5 if dtype == np.float32 else 1e-10
        assert loss == pytest.approx(want.item(), rel=tolerance)
        for name, value in w.items():
            np.testing.assert_allclose(grads[name], value.grad.numpy(), rtol=tolerance, atol=tolerance)

    def test_targets_come_by_name_or_in_order(self, batch):
        X, y = batch
        want = several_outputs().loss(X, y)
        for other in (tuple(y.values()), dict(reversed(y.items())), {**y, "label": y["label"].tolist()}):
            assert_same_bits(several_outputs().loss(X, other), want)

    def test_a_tuple_is_in_the_order_of_the_outputs_whatever_that_of_the_losses(self, batch):
        X, y = batch
        net, want = several_outputs(), several_outputs().loss(X, y)
        net.criterion = WeightedLosses(dict(reversed(LOSSES.items())), WEIGHTS)
        loss, grads = net.loss(X, tuple(y.values()))
        assert loss == pytest.approx(want[0], rel=1e-12)
        for name, grad in grads.items():
            np.testing.assert_allclose(grad, want[1][name], rtol=1e-9, atol=1e-12)

    def test_losses_come_in_order_too(self, batch):
        net = several_outputs(losses=tuple(LOSSES.values()), loss_weights=WEIGHTS)
        assert_same_bits(net.loss(*batch), several_outputs().loss(*batch))

    def test_a_gradient_handed_in_stays_as_it_is(self, batch):
        """`label` is read by another layer, whose gradient is added to its own."""
        X, y = batch
        net, kept = several_outputs(), {}

        def loss(outputs, y):
            value, kept["given"] = by_hand(outputs, y)
            kept["copy"] = {name: values.copy() for name, values in kept["given"].items()}
            return value, kept["given"]

        net.criterion = loss
        got = net.loss(X, y)
        assert_same_bits(kept["given"], kept["copy"])
        assert got[0] == pytest.approx(several_outputs().loss(X, y)[0], rel=1e-12)

    def test_own_functions(self, batch):
        X, y = batch
        named = dict(LOSSES)

        def cube(scores, targets):
            error = scores - targets
            return np.mean(np.abs(error) ** 3), 3 * error * np.abs(error) / error.size

        def mean(scores, targets):  # its gradient is no array of its own
            return float((scores - targets).mean()), np.broadcast_to(1 / scores.size, scores.shape)

        several_outputs(losses=named | {"size": mean}).loss(X, y)
        net = several_outputs(losses=named | {"size": cube})
        loss, grads = net.loss(X, y)
        numeric = eval_numerical_gradient(lambda _: net.loss(X, y)[0], net.params["W4"])
        assert rel_error(numeric, grads["W4"]) < 1e-6
        assert loss > 0

    def test_only_what_is_trained_gets_a_gradient(self, batch):
        net = several_outputs()
        whole = net.loss(*batch)[1]
        net.freeze("W1", "b1", "gamma1", "beta1", "W2", "b2")
        heads = net.loss(*batch)[1]
        assert set(heads) == {"W3", "b3", "W4", "b4"}
        assert whole.keys() - heads.keys() == set(net.frozen)

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            (lambda y: y["label"], TypeError, r"one for each output \(label, size, mask\), .* got ndarray"),
            (lambda y: (y["label"], y["size"]), TypeError, "got tuple"),
            (lambda y: {"label": y["label"]}, ValueError, "must be of label, size, mask, got label"),
            (lambda y: y | {"more": y["size"]}, ValueError, "got label, size, mask, more"),
            (lambda y: y | {"size": y["size"][:1]}, ValueError, "output 'size': huber_loss: y must have"),
            (lambda y: y | {"label": y["label"] + 0.5}, TypeError, "output 'label': softmax_loss"),
        ],
    )
    def test_targets_that_do_not_fit(self, change, error, message, batch):
        X, y = batch
        with pytest.raises(error, match=message):
            several_outputs().loss(X, change(y))

    @pytest.mark.parametrize(
        ("settings", "error", "message"),
        [
            ({"losses": "mse"}, TypeError, "losses must be one for each of label, size, mask"),
            ({"losses": ["mse", "mse"]}, TypeError, "losses must be one for each"),
            ({"losses": {"label": "softmax", "size": "mse"}}, KeyError, "losses lacks 'mask'"),
            ({"losses": LOSSES | {"masks": "mse"}}, ValueError, "unknown key 'masks' in losses"),
            ({"losses": LOSSES | {"size": "huberr"}}, ValueError, "did you mean 'huber'"),
            ({"losses": LOSSES | {"size": {"mse": 1}}}, TypeError, r"losses\['size'\] must be a name"),
            ({"losses": LOSSES, "loss_weights": {"sizes": 1.0}}, ValueError, "unknown key 'sizes'"),
            ({"losses": LOSSES, "loss_weights": {"size": -1.0}}, ValueError, r"loss_weights\['size'\]"),
            ({"loss_weights": WEIGHTS}, TypeError, "losses must be one for each"),
            ({"num_classes": 4}, ValueError, "num_classes is for a graph of one output"),
        ],
    )
    def test_settings_that_do_not_fit(self, settings, error, message):
        with pytest.raises(error, match=message):
            several_outputs(**settings)

    def test_losses_need_named_outputs(self):
        graph = Graph([Node("affine", ("input",), "scores", ("W", None))], output="scores")
        with pytest.raises(ValueError, match="for a graph whose outputs are named"):
            GraphNet(graph, {"W": np.eye(2)}, 2, losses={"scores": "mse"})

    def test_training_needs_losses(self, batch):
        with pytest.raises(ValueError, match="outputs label, size, mask have no losses"):
            several_outputs(reg=0.0).loss(*batch)


def _part(name, scores, y):
    weight, settings = {"label": (1, {}), "size": (0.3, {"delta": 0.7}), "mask": (2, {"ignore": 9})}[name]
    loss = layers.huber_loss if name == "size" else layers.softmax_loss
    value, dscores = loss(scores, y.astype(scores.dtype) if name == "size" else y, **settings)
    return weight * value, scores.dtype.type(weight) * dscores


class TestGraph:
    @pytest.mark.parametrize(
        ("outputs", "error", "message"),
        [
            ("label", TypeError, "outputs of the graph must be names"),
            ((1,), TypeError, "outputs of the graph must be names"),
            (("label", "sizes"), ValueError, "no node makes the output 'sizes'"),
            (("label", "size", "label"), ValueError, "names 'label' twice"),
            (("label", "size"), ValueError, "nothing reads what node 'mask'"),
        ],
    )
    def test_outputs_that_do_not_fit(self, outputs, error, message):
        graph = several_graph()
        graph.outputs = outputs
        with pytest.raises(error, match=message):
            graph.check("test")

    def test_a_layer_between_outputs_stays_apart(self):
        """conv and ReLU are one step elsewhere; here what the convolution makes leaves the network."""
        graph = Graph(outputs=("before", "after"))
        graph.append(Node("conv", ("input",), "before", ("W", None), ({"pad": 1},)))
        graph.append(Node("relu", ("before",), "after"))
        net = GraphNet(graph, {"W": np.ones((2, 1, 3, 3))}, (1, 5, 5), dtype=np.float64)
        X = np.random.default_rng(0).standard_normal((3, 1, 5, 5))
        for out in (net.loss(X), cnnlib.prepare(net)(X)):
            assert out["before"].min() < 0
            np.testing.assert_array_equal(out["after"], np.maximum(out["before"], 0))

    def test_a_cut_and_a_new_head(self, batch):
        net = several_outputs()
        assert net.cut("size").outputs == ()
        both = net.cut(("size", "mask"))
        assert_same_bits(both.loss(batch[0]), {name: net.loss(batch[0])[name] for name in both.outputs})
        np.testing.assert_array_equal(net.cut("size").loss(batch[0]), net.loss(batch[0])["size"])
        assert net.cut("pooled").with_head(7, seed=0).num_classes == 7
        with pytest.raises(ValueError, match="node is empty"):
            net.cut(())
        for refuses in (net.with_head, net.graph().with_head):
            with pytest.raises(ValueError, match="this one has label, size, mask"):
                refuses(7)

    def test_text(self):
        assert repr(several_outputs()) == (
            "GraphNet(1x6x6 -> label, size, mask, 8 nodes, float64, 186 parameters)"
        )


class TestPrepared:
    @pytest.mark.parametrize("dtype", DTYPES)
    def test_computes_what_the_model_does(self, dtype, batch):
        X, y = batch
        net = several_outputs(dtype)
        net.loss(X, y)  # moves the running statistics
        want, predictor = net.loss(X), cnnlib.prepare(net)
        got = predictor(X)
        assert list(got) == list(want)
        for name, values in want.items():
            assert got[name].dtype == dtype
            assert got[name].flags.c_contiguous
            tolerance = (1e-5 if dtype == np.float32 else 1e-13) * np.abs(values).max() * 3
            np.testing.assert_allclose(got[name], values, rtol=0, atol=tolerance)
            for k in (0, 7):
                assert_same_bits(predictor(X[k : k + 1])[name], got[name][k : k + 1])
        assert {name: len(values) for name, values in predictor(X[:0]).items()} == dict.fromkeys(want, 0)

    def test_takes_bytes(self):
        net = several_outputs()
        net.preprocess = Normalization(100, 50)
        X = np.random.default_rng(0).integers(0, 256, (4, 1, 6, 6), dtype=np.uint8)
        got, want = cnnlib.prepare(net)(X), net.loss(net.preprocess(X))
        for name, values in want.items():
            np.testing.assert_allclose(got[name], values, rtol=1e-6, atol=1e-6)

    def test_norms_and_dropout_between_outputs(self):
        """What is folded into other layers elsewhere has to leave the network here under its own name."""
        rng = np.random.default_rng(0)
        norm = {"mode": "test", "running_mean": rng.standard_normal(3), "running_var": rng.uniform(1, 2, 3)}
        graph = Graph(outputs=("norm", "scaled", "conv", "tripled", "dropped"))
        graph.append(Node("conv", ("input",), "first", ("W", None), ({"pad": 1},)))
        graph.append(Node("spatial_batchnorm", ("first",), "norm", ("g", "h"), (norm,)))
        graph.append(Node("scale", ("norm",), "scaled", (), (0.5,)))
        graph.append(Node("conv", ("scaled",), "conv", ("V", None), ({"pad": 1},)))
        graph.append(Node("scale", ("conv",), "tripled", (), (3.0,)))
        graph.append(Node("dropout", ("tripled",), "dropped", (), ({"p": 0.5, "mode": "test"},)))
        sizes = {"W": (3, 2, 3, 3), "V": (3, 3, 3, 3), "g": 3, "h": 3}
        params = {name: rng.standard_normal(size) for name, size in sizes.items()}
        net = GraphNet(graph, params, (2, 5, 5), dtype=np.float64)
        X = rng.standard_normal((3, 2, 5, 5))
        got, want = cnnlib.prepare(net)(X), net.loss(X)
        assert got.keys() == want.keys()
        for name, values in want.items():
            np.testing.assert_allclose(got[name], values, rtol=1e-12, atol=1e-12, err_msg=name)

    def test_the_input_may_leave_too(self):
        graph = Graph([Node("relu", ("input",), "r")], outputs=("input", "r"))
        X = np.random.default_rng(0).standard_normal((3, 2, 4, 4))
        net = GraphNet(graph, {}, (2, 4, 4), dtype=np.float64)
        assert_same_bits(cnnlib.prepare(net)(X), {"input": X, "r": np.maximum(X, 0)})

    def test_what_needs_one_output_refuses(self, batch):
        predictor = cnnlib.prepare(several_outputs())
        with pytest.raises(ValueError, match="precision='int8': needs a network of one output"):
            cnnlib.prepare(several_outputs(), precision="int8", calibration=batch[0])
        assert not predictor.gives_probabilities
        with pytest.raises(
            ValueError, match=r"features: the network has several outputs \(label, size, mask\)"
        ):
            cnnlib.features(predictor, batch[0])

    @pytest.mark.parametrize("kind", ["predictor", "model"])
    def test_the_command_line_refuses(self, kind, tmp_path):
        net = several_outputs()
        net.preprocess = Normalization(100, 50)
        path = tmp_path / "net"
        cnnlib.prepare(net).save(path) if kind == "predictor" else net.save(path)
        with pytest.raises(ValueError, match=r"net: the model has several outputs \(label, size, mask\)"):
            open_trained(str(path))

    def test_its_table(self):
        assert "label as a row" in cnnlib.prepare(several_outputs()).summary()


class TestFiles:
    def test_a_predictor(self, tmp_path, batch):
        predictor = cnnlib.prepare(several_outputs())
        predictor.save(tmp_path / "net")
        assert_same_bits(cnnlib.load(tmp_path / "net")(batch[0]), predictor(batch[0]))

    def test_a_model_with_its_losses(self, tmp_path, batch):
        net = several_outputs()
        net.save(tmp_path / "net.npz")
        loaded = cnnlib.load(tmp_path / "net.npz")
        assert loaded.outputs == net.outputs
        assert_same_bits(loaded.loss(*batch), net.loss(*batch))

    def test_a_model_with_functions_of_ones_own_keeps_no_losses(self, tmp_path, batch):
        net = several_outputs(losses=LOSSES | {"size": lambda scores, y: (0.0, 0 * scores)})
        net.save(tmp_path / "net.npz")
        loaded = cnnlib.load(tmp_path / "net.npz")
        assert_same_bits(loaded.loss(batch[0]), net.loss(batch[0]))
        with pytest.raises(ValueError, match="have no losses"):
            loaded.loss(*batch)

    @pytest.mark.parametrize("prepared", [False, True])
    def test_onnx(self, prepared, tmp_path, batch):
        onnxruntime = pytest.importorskip("onnxruntime")
        X = batch[0]
        net = several_outputs(np.float32)
        net.loss(*batch)
        want, path = net.loss(X), tmp_path / "net.onnx"
        cnnlib.onnx.save(cnnlib.prepare(net) if prepared else net, path)
        session = onnxruntime.InferenceSession(path)
        assert [value.name for value in session.get_outputs()] == list(want)
        other = dict(zip(want, session.run(None, {session.get_inputs()[0].name: X}), strict=True))
        loaded = cnnlib.load(path)
        assert loaded.outputs == net.outputs
        for found in (other, loaded.loss(X), cnnlib.prepare(loaded)(X)):
            for name, values in want.items():
                np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-5, err_msg=name)


class TestSolver:
    SETTINGS: ClassVar = {"update_rule": "adam", "optim_config": {"learning_rate": 3e-2}, "seed": 1}

    def test_learns_all_of_them(self):
        data = with_targets(digits_like(200, 60))
        solver = trained(several_outputs(), data, num_epochs=30, **self.SETTINGS)
        assert solver.monitored == "val_loss"
        assert list(solver.histories) == [
            "loss",
            *("train_label/accuracy", "train_size/rmse", "train_mask/accuracy"),
            *("val_label/accuracy", "val_size/rmse", "val_mask/accuracy"),
            *("val_loss", "learning_rate", "epoch_seconds"),
        ]
        first, best = (
            [
                solver.histories[name][k]
                for name in ("val_label/accuracy", "val_size/rmse", "val_mask/accuracy")
            ]
            for k in (0, solver.best_epoch)
        )
        assert best[0] > first[0]
        assert best[1] < 0.3 * first[1]
        assert best[2] > 0.9

    def test_the_validation_loss_is_that_of_all_samples(self):
        """Batches of 100 of 130 samples hold different shares of pixels that count."""
        data = with_targets(digits_like(40, 130))
        data["y_val"]["mask"][:100, :5] = 9
        net = several_outputs()
        solver = trained(net, data, num_epochs=0, **self.SETTINGS)
        want, _ = by_hand(net.loss(data["X_val"]), data["y_val"])
        assert solver.val_loss_history == [pytest.approx(want, rel=1e-12)]

    @pytest.mark.parametrize("own_losses", [True, False])
    def test_resumes_to_the_same_bits(self, own_losses, tmp_path):
        data = with_targets(digits_like())
        loss = {} if own_losses else {"loss": {"losses": LOSSES, "weights": WEIGHTS}}
        settings = {"num_epochs": 4, "augment": "flip", "checkpoint_name": tmp_path / "run", **self.SETTINGS}
        settings |= {"metrics": {"label": ["accuracy", "f1"], "size": "mae"}, "monitor": "size/mae", **loss}

        def net():
            return several_outputs() if own_losses else several_outputs(reg=0.0)

        whole = trained(net(), data, **settings)
        for epoch in (1, 3):
            again = Solver.resume(tmp_path / f"run_epoch_{epoch}.npz", net(), data)
            again.train()
            assert_same_run(again, whole)
            assert again.histories["val_size/mae"] == whole.histories["val_size/mae"]
        assert whole.monitored == "val_size/mae"
        assert whole.best_epoch == np.argmin(whole.histories["val_size/mae"])

    def test_functions_of_ones_own_are_given_again(self, tmp_path):
        def worst(scores, y):
            return np.abs(scores - y).max()

        data = with_targets(digits_like())
        metrics = {"label": "accuracy", "size": worst}
        solver = trained(several_outputs(), data, metrics=metrics, checkpoint_name=tmp_path / "run")
        assert len(solver.histories["val_size/worst"]) == 3
        with pytest.raises(ValueError, match="the run's metrics was a function of its own"):
            Solver.resume(tmp_path / "run_epoch_1.npz", several_outputs(), data)
        again = Solver.resume(tmp_path / "run_epoch_1.npz", several_outputs(), data, metrics=metrics)
        again.train()
        assert again.histories["val_size/worst"] == solver.histories["val_size/worst"]

    def test_masks_move_with_their_images(self):
        seen = []
        net = several_outputs()

        def spy(X, y, loss=None):
            seen.append((X, y))
            return GraphNet.loss(net, X, y)

        data = with_targets(digits_like())
        for part in ("train", "val"):
            data[f"y_{part}"]["mask"] = (data[f"X_{part}"][:, 0] > 0.5).astype(np.int64)
        net.loss = lambda X, y=None, loss=None: GraphNet.loss(net, X) if y is None else spy(X, y)
        quiet_solver(net, data, augment=["flip", {"name": "crop", "pad": 2}], num_epochs=1, seed=0).train()
        known = {image.tobytes() for image in data["X_train"]}
        assert any(image.tobytes() not in known for X, _ in seen for image in X)
        for X, y in seen:
            np.testing.assert_array_equal(y["mask"], X[:, 0] > 0.5)

    def test_all_masks_move_alike(self):
        X = np.random.default_rng(0).standard_normal((20, 1, 6, 6))
        y = Targets({"one": X[:, 0].copy(), "label": np.arange(20), "two": 2 * X})
        moved, targets = augmented(build_augmentation(["flip", "crop"]), X, y, np.random.default_rng(1), None)
        assert not np.array_equal(moved, X)
        np.testing.assert_array_equal(targets["one"], moved[:, 0])
        np.testing.assert_array_equal(targets["two"], 2 * moved)
        np.testing.assert_array_equal(targets["label"], np.arange(20))

    def test_pairs_by_a_stream_of_their_own_are_refused(self):
        class Doubles:
            def __init__(self):
                self.own = np.random.default_rng(0)

            def pair(self, X, y, rng, samples=None):
                X *= self.own.uniform(1, 2)
                return X, y

        X, doubles = np.ones((3, 1, 2, 2)), Doubles()
        with pytest.raises(ValueError, match=r"Doubles\.pair must draw from `rng` alone"):
            augmented(doubles, X, Targets({"a": X, "b": X}), np.random.default_rng(0), None)
        doubles.own = type("Fixed", (), {"uniform": staticmethod(lambda low, high: 2.0)})
        moved, _ = augmented(doubles, X, Targets({"a": X, "b": X}), np.random.default_rng(0), None)
        np.testing.assert_array_equal(moved, np.full_like(X, 2))

    def test_memory_maps_and_tuples(self, tmp_path):
        data = with_targets(digits_like())
        plain = trained(several_outputs(), data, **self.SETTINGS)
        for part in ("train", "val"):
            for name, array in data[f"y_{part}"].items():
                np.save(tmp_path / f"{part}-{name}.npy", array)
            maps = [np.load(tmp_path / f"{part}-{name}.npy", mmap_mode="r") for name in data[f"y_{part}"]]
            data[f"y_{part}"] = tuple(maps)
        mapped = trained(several_outputs(), data, **self.SETTINGS)
        assert isinstance(mapped.y_train["mask"], np.memmap)
        assert_same_run(mapped, plain)

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"metrics": "accuracy"}, ValueError, "does not fit; several outputs want metrics={'label'"),
            ({"metrics": {"sizes": "mae"}}, ValueError, "'sizes/mae' does not fit"),
            (
                {"metrics": {"label": "rmse"}},
                ValueError,
                "Solver: output 'label': rmse: targets must be of the",
            ),
            (
                {"monitor": "accuracy"},
                ValueError,
                "monitor must be one of 'val_label/accuracy', 'val_size/rmse'",
            ),
            ({"label_smoothing": 0.1}, ValueError, "label_smoothing is up to the model"),
        ],
    )
    def test_options_that_do_not_fit(self, options, error, message):
        with pytest.raises(error, match=message):
            quiet_solver(several_outputs(), with_targets(digits_like()), **options).train()

    @pytest.mark.parametrize(
        ("loss", "error", "message"),
        [
            (None, ValueError, "it needs loss={'label': ..., 'size': ..., 'mask': ...}"),
            ("mse", ValueError, "it needs loss={'label'"),
            ({"label": "softmax", "size": "mse"}, KeyError, "loss lacks 'mask'"),
            (LOSSES | {"masks": "mse"}, ValueError, "unknown key 'masks' in loss"),
        ],
    )
    def test_losses_that_do_not_fit(self, loss, error, message):
        with pytest.raises(error, match=message):
            quiet_solver(several_outputs(reg=0.0), with_targets(digits_like()), loss=loss)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda y: y["label"], "Solver: y_train: targets must be a dict"),
            (lambda y: y | {"size": y["size"][:5]}, r"y_train\['size'\] must have shape \(60, ...\)"),
            (lambda y: {"label": y["label"]}, "y_train: targets must be of label, size, mask, got label"),
        ],
    )
    def test_targets_that_do_not_fit(self, change, message):
        data = with_targets(digits_like())
        data["y_train"] = change(data["y_train"])
        with pytest.raises((TypeError, ValueError), match=message):
            quiet_solver(several_outputs(), data)

    def test_one_output_takes_none_of_this(self):
        net = cnnlib.models.FullyConnectedNet((5,), input_dim=36, num_classes=4, seed=0)
        for options, message in (
            ({"loss": {"label": "softmax"}}, "loss is of outputs label, the model has but one"),
            ({"metrics": {"label": "accuracy"}}, "'label/accuracy' does not fit; the one output has no name"),
        ):
            with pytest.raises(ValueError, match=message):
                quiet_solver(net, digits_like(), **options)

    def test_check_accuracy_refuses(self, batch):
        solver = quiet_solver(several_outputs(), with_targets(digits_like()))
        with pytest.raises(ValueError, match="check_accuracy: the model has several outputs"):
            solver.check_accuracy(batch[0], batch[1]["label"])

    def test_a_criterion_without_losses_by_name_is_refused(self):
        net = several_outputs()
        net.criterion = by_hand
        with pytest.raises(ValueError, match=r"model\.criterion must be WeightedLosses of label, size, mask"):
            quiet_solver(net, with_targets(digits_like()))

    def test_a_networks_losses_win(self):
        net = several_outputs()
        solver = trained(net, with_targets(digits_like()), num_epochs=0, loss="mse")
        assert net.criterion.weights == {"label": 1.0, **WEIGHTS}
        assert isinstance(net.criterion, WeightedLosses)
        assert np.isfinite(solver.val_loss_history[0])
