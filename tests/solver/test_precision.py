"""The Solver's precision: it sets the model's, checkpoints keep it, and a run goes on to the same bits."""

import copy
import pickle

import numpy as np
import pytest
from cnnlib import _core
from cnnlib.models import ConvNet, FullyConnectedNet
from cnnlib.solver import Solver
from training import LinearModel, assert_same_bits, assert_same_run, digits_like, quiet_solver, trained

needs_instructions = pytest.mark.skipif(
    _core.active_bfloat16() is None, reason="this processor has no instructions for bfloat16"
)
LAYERS = [{"conv": 8}, "batchnorm", "relu", {"max_pool": 2}, {"affine": 16}, "relu"]


def network(dtype=np.float32):
    return ConvNet(LAYERS, (1, 6, 6), 4, dtype=dtype, seed=0)


def images():
    data = digits_like()
    return {
        name: value.reshape(-1, 1, 6, 6).astype(np.float32) if name.startswith("X") else value
        for name, value in data.items()
    }


class TestSolver:
    @pytest.mark.parametrize("precision", ["bfloat16", "float32"])
    def test_it_sets_the_models(self, precision):
        model = network()
        solver = quiet_solver(model, images(), precision=precision)
        assert model.precision == solver.options.precision == precision

    def test_none_leaves_the_model_alone(self):
        model = network()
        model.precision = "bfloat16"
        assert quiet_solver(model, images()).options.precision == model.precision == "bfloat16"
        assert quiet_solver(network(np.float64), images()).options.precision == "float64"

    def test_it_goes_back_to_the_models_dtype(self):
        model = network()
        model.precision = "bfloat16"
        quiet_solver(model, images(), precision="float32")
        assert model.precision == "float32"

    @pytest.mark.parametrize(
        ("dtype", "precision"), [(np.float64, "bfloat16"), (np.float64, "float32"), (np.float32, "float64")]
    )
    def test_a_dtype_that_is_not_the_models_is_refused(self, dtype, precision):
        model = network(dtype)
        with pytest.raises(ValueError, match=r"ConvNet: precision .*(bfloat16|float32|float64)"):
            quiet_solver(model, images(), precision=precision)
        assert model.precision == np.dtype(dtype).name

    @pytest.mark.parametrize(
        ("value", "error", "message"),
        [
            ("float16", ValueError, "precision must be one of 'bfloat16', 'float32', 'float64'"),
            (np.float32, TypeError, "precision must be a string"),
        ],
    )
    def test_other_values_are_refused(self, value, error, message):
        with pytest.raises(error, match=f"Solver: {message}"):
            quiet_solver(network(), images(), precision=value)

    @pytest.mark.parametrize("precision", ["bfloat16", "float32"])
    def test_a_model_of_the_users_own_is_refused(self, precision):
        with pytest.raises(ValueError, match=f"precision='{precision}' is for the library's .* LinearModel"):
            quiet_solver(LinearModel(36, 4), digits_like(), precision=precision)
        assert quiet_solver(LinearModel(36, 4), digits_like()).options.precision is None

    def test_norms_of_all_ranks_exclude_it(self):
        with pytest.raises(ValueError, match=r"precision='bfloat16' and batchnorm_statistics='global' excl"):
            quiet_solver(network(), images(), precision="bfloat16", batchnorm_statistics="global")


@needs_instructions
class TestRun:
    def test_bfloat16_trains_other_bits_near_those_of_float32(self):
        nets = {}
        for precision in ("float32", "bfloat16"):
            nets[precision] = network()
            trained(nets[precision], images(), precision=precision, seed=1, keep="last")
        for name, want in nets["float32"].params.items():
            got = nets["bfloat16"].params[name]
            assert got.dtype == np.float32
            assert not np.array_equal(got, want) or name.startswith("b"), name
            np.testing.assert_allclose(got, want, atol=0.02, err_msg=name)

    @pytest.mark.parametrize("by_hand", [False, True])
    def test_resumed_it_goes_on_to_the_same_bits(self, by_hand, tmp_path):
        def begun():
            model = network()
            if by_hand:
                model.precision = "bfloat16"
            return model, {} if by_hand else {"precision": "bfloat16"}

        how = {"seed": 1, "update_rule": "adam", "num_epochs": 4}
        model, given = begun()
        whole = trained(model, images(), checkpoint_name=tmp_path / "run", **how, **given)
        again = network()
        resumed = Solver.resume(tmp_path / "run_epoch_2.npz", again, images(), verbose=False)
        assert again.precision == resumed.options.precision == "bfloat16"
        resumed.train()
        assert_same_run(resumed, whole)

    def test_resumed_in_float32_a_model_of_bfloat16_goes_back(self, tmp_path):
        trained(network(), images(), checkpoint_name=tmp_path / "run", seed=1)
        again = network()
        again.precision = "bfloat16"
        Solver.resume(tmp_path / "run_epoch_1.npz", again, images(), verbose=False)
        assert again.precision == "float32"

    @pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
    def test_copies_keep_it(self, copied):
        model, data = network(), images()
        assert "_bfloat16" not in vars(model)
        model.precision = "bfloat16"
        want = model.loss(data["X_train"], data["y_train"])
        twin = copied(model)
        assert twin.precision == "bfloat16"
        plain = network().loss(data["X_train"], data["y_train"])
        got = twin.loss(data["X_train"], data["y_train"])
        assert_same_bits(got, want)
        assert got[0] != plain[0]

    def test_layers_that_run_one_by_one_say_that_they_compute_in_float32(self, caplog):
        model = FullyConnectedNet([8], 36, 4, seed=0)
        model.precision = "bfloat16"
        X, y = digits_like()["X_train"].astype(np.float32), digits_like()["y_train"]
        model.params["W1"] = model.params["W1"].astype(np.float64)
        model.loss(X, y)
        assert "they compute in float32, not in bfloat16" in caplog.text
