"""
torchvision's networks, loaded at one size of images and run at two: PyTorch's scores.

With `TORCHVISION_NETWORKS=all` set it takes all that classify images, and with `-ra` pytest says
which do not load and why.
"""

import os

import cnnlib
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")

import cnnlib.torch  # noqa: E402

pytestmark = pytest.mark.peers

QUICK = ["mobilenet_v3_small", "efficientnet_b0", "regnet_y_400mf", "squeezenet1_1"]
ALL = torchvision.models.list_models(module=torchvision.models)
SIZE, OTHERS = {"inception_v3": 96}, [(8, 8), (1, 19)]  # 64 if not here; how much larger others are


def network(name):
    """Random weights, and statistics unlike those of an untrained network."""
    torch.manual_seed(0)
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    module = torchvision.models.get_model(name, weights=None, **options)
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(layer.weight, 0.7, 1.3)
    return module.eval()


@pytest.mark.parametrize("name", ALL if os.environ.get("TORCHVISION_NETWORKS") == "all" else QUICK)
@pytest.mark.filterwarnings("ignore")
def test_scores_are_torchs_at_two_sizes(name, rng):
    module, size = network(name), SIZE.get(name, 64)
    try:
        net = cnnlib.torch.from_module(module, (3, size, size))
    except ValueError as error:
        if name in QUICK:
            raise
        pytest.skip(f"{name}: {error}")
    predictor = cnnlib.prepare(net)
    for more in [(0, 0), *OTHERS]:
        X = rng.standard_normal((2, 3, size + more[0], size + more[1])).astype(np.float32)
        with torch.no_grad():
            want = module(torch.tensor(X)).numpy()
        for model in (net.loss, predictor):
            assert np.abs(model(X) - want).max() < 1e-5 * np.abs(want).max(), X.shape


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
@pytest.mark.filterwarnings("ignore")
def test_features_are_torchs(name, rng):
    module = network(name)
    parts = list(module.children())[:-1]
    pool = [] if name == "resnet18" else [torch.nn.AdaptiveAvgPool2d(1)]
    body = torch.nn.Sequential(*parts, *pool, torch.nn.Flatten()).eval()
    X = rng.standard_normal((3, 3, 64, 64)).astype(np.float32)
    with torch.no_grad():
        want = body(torch.tensor(X)).numpy()
    rows = cnnlib.features(cnnlib.torch.from_module(module, (3, 64, 64)).cut(), X)
    assert rows.shape == want.shape
    assert np.abs(rows - want).max() < 1e-5 * np.abs(want).max()
