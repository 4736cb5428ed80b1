"""The verbs that all networks have: a call, predict, predict_proba, save, export."""

import copy

import cnnlib
import numpy as np
import pytest
from cnnlib.course import TwoLayerNet
from cnnlib.inference import Predictor
from cnnlib.models import ConvNet, FullyConnectedNet, Graph, GraphNet, ThreeLayerConvNet
from several_outputs import several_outputs, targets_of
from training import assert_same_bits, digits_like

DIM = (1, 6, 6)
SPEC = [{"conv": 3}, "batchnorm", "relu", {"max_pool": 2}]
NETWORKS = {
    "three layers": lambda: ThreeLayerConvNet(DIM, 3, 3, 5, 4, weight_scale=0.5, use_batchnorm=True, seed=0),
    "fully connected": lambda: FullyConnectedNet([5], DIM, 4, weight_scale=0.5, seed=0),
    "two layers": lambda: TwoLayerNet(DIM, 5, 4, weight_scale=0.5, seed=0),
    "spec": lambda: ConvNet(SPEC, DIM, 4, seed=0),
    "graph": lambda: ConvNet(SPEC, DIM, 4, seed=0).cut("relu3").with_head(4, seed=0),
}
X, Y = digits_like()["X_val"], digits_like()["y_val"]


@pytest.fixture(params=NETWORKS)
def net(request):
    """A network that has learned a little, so that its scores differ from class to class."""
    net = NETWORKS[request.param]()
    for _ in range(20):
        _, grads = net.loss(X, Y)
        for name, gradient in grads.items():
            net.params[name] -= gradient
    return net


def softmax(scores, axis=1):
    powers = np.exp(scores - scores.max(axis=axis, keepdims=True))
    return powers / powers.sum(axis=axis, keepdims=True)


class TestCalls:
    def test_scores_labels_and_probabilities(self, net):
        scores = net(X)
        assert_same_bits(scores, net.loss(X))
        assert_same_bits(net.predict(X), scores.argmax(axis=1))
        assert len(set(net.predict(X).tolist())) > 1
        np.testing.assert_allclose(net.predict_proba(X), softmax(scores), rtol=1e-5)
        assert net.predict_proba(X).dtype == net.dtype

    def test_predictors_say_the_same(self, net):
        predictor = cnnlib.prepare(net)
        assert_same_bits(predictor.predict(X), net.predict(X))
        np.testing.assert_allclose(predictor.predict_proba(X), net.predict_proba(X), rtol=1e-4, atol=1e-6)

    def test_a_loss_of_the_users_own_is_called(self):
        net = NETWORKS["spec"]()
        net.loss = lambda X, y=None: np.full((len(X), 4), 7.0)
        assert (net(X) == 7).all()

    def test_no_samples(self, net):
        assert net.predict(X[:0]).shape == (0,)
        assert net.predict_proba(X[:0]).shape == (0, 4)


class TestByTheLoss:
    """What `predict` makes of scores follows from the loss of the last training step."""

    def trained(self, loss, y):
        net = ConvNet(SPEC, DIM, 4, seed=0)
        net.loss(X, y, loss)
        return net

    @pytest.mark.parametrize("loss", ["mse", "l1", "huber", {"name": "huber", "delta": 0.5}])
    def test_numbers(self, loss):
        net = self.trained(loss, np.ones((len(X), 4)))
        for each in (net, cnnlib.prepare(net)):
            assert_same_bits(each.predict(X), each(X))
            with pytest.raises(ValueError, match=r"predict_proba: the network gives numbers"):
                each.predict_proba(X)

    @pytest.mark.parametrize("loss", ["bce", "dice"])
    def test_logits(self, loss):
        net = self.trained(loss, np.ones((len(X), 4)))
        scores = net(X)
        for each in (net, cnnlib.prepare(net)):
            assert_same_bits(each.predict(X), (scores > 0).astype(np.intp))
            np.testing.assert_allclose(each.predict_proba(X), 1 / (1 + np.exp(-scores)), rtol=1e-4)

    def test_the_last_loss_counts(self):
        net = self.trained("mse", np.ones((len(X), 4)))
        net.loss(X, Y)
        assert net.loss_name == "softmax"
        assert_same_bits(net.predict(X), net(X).argmax(axis=1))

    def test_scores_of_the_svm_are_no_logarithms(self):
        net = self.trained("svm", Y)
        assert_same_bits(net.predict(X), net(X).argmax(axis=1))
        with pytest.raises(ValueError, match=r"ConvNet\.predict_proba: scores of the svm loss"):
            net.predict_proba(X)

    def test_a_function_of_the_users_own_leaves_it_to_the_head(self):
        def own(scores, y):
            return cnnlib.mse_loss(scores, y)

        for head, expected in (("classes", (len(X),)), ("values", (len(X), 4))):
            net = ConvNet([*SPEC, head], DIM, 4, seed=0)
            net.loss(X, np.zeros((len(X), 4)), own)
            assert net.loss_name is None
            assert net.predict(X).shape == expected

    def test_a_function_of_the_library_is_known(self):
        assert self.trained(cnnlib.bce_loss, np.ones((len(X), 4))).loss_name == "bce"

    def test_a_criterion_counts(self):
        net = ConvNet(SPEC, DIM, 4, seed=0)
        net.criterion = cnnlib.mse_loss
        net.loss(X, np.zeros((len(X), 4)))
        assert_same_bits(net.predict(X), net(X))

    def test_heads_of_untrained_networks(self):
        masks = ConvNet([{"conv": 3}, "pixels"], DIM, 4, seed=0)
        assert_same_bits(masks.predict(X), masks(X).argmax(axis=1))
        np.testing.assert_allclose(masks.predict_proba(X).sum(axis=1), 1, rtol=1e-6)
        numbers = ConvNet([{"conv": 3}, {"values": 2}], DIM, seed=0)
        assert_same_bits(numbers.predict(X), numbers(X))
        one = FullyConnectedNet([3], DIM, 1, seed=0)
        assert_same_bits(one.predict(X), one(X))

    def test_images_are_predicted_as_they_are(self):
        net = ConvNet("autoencoder", (1, 8, 8), 3, seed=0)
        images = np.random.default_rng(0).standard_normal((2, 1, 8, 8))
        net.loss(images, np.zeros((2, 3, 8, 8)))
        assert net.loss_name == "mse"
        assert_same_bits(net.predict(images), net(images))

    def test_a_softmax_at_the_end_is_not_taken_twice(self):
        graph = Graph()
        graph.affine("W1")
        graph.softmax()
        net = GraphNet(graph, {"W1": np.random.default_rng(0).standard_normal((36, 4))}, 36)
        assert_same_bits(net.predict_proba(X.reshape(len(X), -1)), net(X.reshape(len(X), -1)))

    def test_several_outputs(self):
        net = several_outputs()
        net.criterion.losses["mask"] = net.criterion.losses["label"]
        net.loss(X, targets_of(X, Y, ignored=0))
        scores = net(X)
        for each in (net, cnnlib.prepare(net)):
            answers = each.predict(X)
            assert_same_bits(answers["label"], scores["label"].argmax(axis=1))
            assert_same_bits(answers["mask"], scores["mask"].argmax(axis=1))
            np.testing.assert_allclose(answers["size"], scores["size"])
            with pytest.raises(ValueError, match=r"predict_proba: size: the network gives numbers"):
                each.predict_proba(X)

    def test_outputs_without_losses(self):
        net = several_outputs(reg=0.0)
        for verb in (net.predict, net.predict_proba, cnnlib.prepare(net).predict):
            with pytest.raises(ValueError, match="the losses of the outputs label, size, mask are not known"):
                verb(X)

    @pytest.mark.parametrize("kind", ["save", "predictor", "onnx"])
    @pytest.mark.parametrize("several", [False, True])
    def test_files_keep_it(self, kind, several, tmp_path):
        if kind == "onnx":
            pytest.importorskip("onnx")
        net = several_outputs() if several else self.trained("bce", np.ones((len(X), 4)))
        path = tmp_path / {"save": "a.npz", "predictor": "a.cnnlib", "onnx": "a.onnx"}[kind]
        (net.save if kind == "save" else net.export)(path)
        loaded = cnnlib.load(path)
        assert loaded.loss_name == net.loss_name is not None
        answer, wanted = loaded.predict(X), net.predict(X)
        for got, want in zip(answer.values(), wanted.values()) if several else [(answer, wanted)]:
            np.testing.assert_allclose(got, want, rtol=1e-6)

    def test_wrong_names_are_not_written(self, tmp_path):
        net = NETWORKS["spec"]()
        for wrong in ("sofmax", {"label": "mse"}, 3):
            net.loss_name = wrong
            for write in (net.save, net.export, cnnlib.prepare(net).save):
                with pytest.raises(ValueError, match="loss_name must be None or one of"):
                    write(tmp_path / "net.cnnlib")
        assert not list(tmp_path.iterdir())


class TestExport:
    @pytest.mark.parametrize("suffix", [".onnx", ".safetensors", ".npz", ".cnnlib", ".ONNX"])
    def test_the_suffix_chooses(self, suffix, net, tmp_path):
        if suffix.lower() == ".onnx":
            pytest.importorskip("onnx")
        path = tmp_path / f"net{suffix}"
        net.export(path)
        loaded = cnnlib.load(path)
        if suffix in (".safetensors", ".npz"):
            statistics = {
                f"{key}{k}": bn_param[key]
                for k, bn_param in enumerate(net.bn_params, start=1)
                for key in ("running_mean", "running_var")
            }
            assert_same_bits(dict(sorted(loaded.items())), dict(sorted({**net.params, **statistics}.items())))
        else:
            assert type(loaded) is (Predictor if suffix == ".cnnlib" else GraphNet)
            np.testing.assert_allclose(loaded(X), net(X), rtol=1e-4, atol=1e-5)

    def test_numpy_reads_the_arrays(self, net, tmp_path):
        net.export(tmp_path / "net.npz")
        with np.load(tmp_path / "net.npz", allow_pickle=False) as arrays:
            assert_same_bits(arrays["W1"], net.params["W1"])

    @pytest.mark.parametrize("suffix", [".safetensors", ".npz", ".cnnlib"])
    def test_predictors(self, suffix, tmp_path):
        predictor = cnnlib.prepare(NETWORKS["spec"]())
        predictor.export(tmp_path / f"net{suffix}")
        loaded = cnnlib.load(tmp_path / f"net{suffix}")
        if suffix == ".cnnlib":
            assert_same_bits(loaded(X), predictor(X))
        else:
            assert_same_bits(dict(loaded), dict(predictor.graph_and_params()[1]))

    @pytest.mark.parametrize("name", ["net", "net.pt", "net.onnx.gz", ".npz"])
    def test_other_suffixes(self, name, net, tmp_path):
        wanted = r"export: the suffix of .* names no format; known are \.onnx .*\.npz .*\.cnnlib"
        for model in (net, cnnlib.prepare(net)):
            with pytest.raises(ValueError, match=rf"{type(model).__name__}\.{wanted}"):
                model.export(tmp_path / name)
        assert not list(tmp_path.iterdir())
        with pytest.raises(TypeError, match="path must be a string or a path, got 3"):
            net.export(3)

    def test_parameters_of_the_names_of_statistics(self, tmp_path):
        net = NETWORKS["spec"]()
        graph = Graph()
        graph.spatial_batchnorm("gamma1", "running_mean1", eps=1e-5)
        ours = GraphNet(graph, {"gamma1": np.ones(1), "running_mean1": np.zeros(1)}, DIM)
        with pytest.raises(ValueError, match="'running_mean1' has the name of a running statistic"):
            ours.export(tmp_path / "net.npz")
        waits = ConvNet([{"conv": 8, "size": 2, "init": "whiten"}, "relu"], DIM, 4)
        with pytest.raises(ValueError, match=r"ConvNet\.export: stage 1 waits for images"):
            waits.export(tmp_path / "net.npz")
        assert copy.deepcopy(net).predict(X).shape == (len(X),)
