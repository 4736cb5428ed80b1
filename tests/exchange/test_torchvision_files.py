"""Parameters of torchvision's networks in safetensors: PyTorch's scores, without PyTorch's help."""

import cnnlib
import numpy as np
import pytest
from cnnlib import safetensors
from cnnlib.data import Normalization
from cnnlib.data.normalization import NORMALIZATIONS
from cnnlib.pretrained import load_torchvision
from cnnlib.pretrained.trunk import open_trunk

pytestmark = pytest.mark.peers

torch = pytest.importorskip("torch", reason="torch is not installed")
torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed")
models = torchvision.models


def small_vgg(build):
    """With the convolutions of torchvision's, which are the lesser part of its weights."""
    module = build()
    module.classifier[0] = torch.nn.Linear(512 * 7 * 7, 8)
    module.classifier[3], module.classifier[6] = torch.nn.Linear(8, 8), torch.nn.Linear(8, 6)
    return module


NETWORKS = {
    "resnet18": lambda: models.resnet18(num_classes=7),
    "resnet50": lambda: models.resnet50(num_classes=7),
    "resnext50_32x4d": models.resnext50_32x4d,
    "wide_resnet26_2": lambda: models.ResNet(models.resnet.Bottleneck, [2, 2, 2, 2], 7, width_per_group=128),
    "mobilenet_v2": models.mobilenet_v2,
    "vgg11": lambda: small_vgg(models.vgg11),
    "vgg13_bn": lambda: small_vgg(models.vgg13_bn),
}


def module(name):
    """Random weights, and statistics unlike those of an untrained network."""
    torch.manual_seed(0)
    module = NETWORKS[name]()
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
            low, high = (2, 5) if name == "mobilenet_v2" else (0.7, 1.3)  # beyond the limit of relu6, too
            torch.nn.init.uniform_(layer.weight, low, high)
    return module.eval()


def arrays_of(module):
    return {name: value.numpy() for name, value in module.state_dict().items()}


@pytest.fixture(scope="module")
def arrays():
    return arrays_of(module("resnet18"))


@pytest.mark.parametrize("name", NETWORKS)
def test_scores_are_torchs(name, tmp_path, rng):
    net = module(name)
    safetensors.save(arrays_of(net), tmp_path / f"{name}-0123abcd.safetensors")
    loaded = load_torchvision(tmp_path / f"{name}-0123abcd.safetensors", size=64)
    assert loaded.preprocess == NORMALIZATIONS["torchvision"]
    bound = 1e-3 if name == "mobilenet_v2" else 1e-5  # its norms here let rounding errors grow
    for size in ((64, 64), (75, 71)):
        X = rng.standard_normal((2, 3, *size)).astype(np.float32)
        with torch.no_grad():
            want = net(torch.tensor(X)).numpy()
        for model in (loaded.loss, cnnlib.prepare(loaded)):
            assert np.abs(model(X) - want).max() < bound * np.abs(want).max(), size


def test_training_drops_and_normalises_as_torch_does(tmp_path, rng):
    """The gradients in training mode, by the batch's statistics."""
    net = module("resnet18").double().train()
    safetensors.save(arrays_of(net), tmp_path / "resnet18.safetensors")
    loaded = load_torchvision(tmp_path / "resnet18.safetensors", size=64)
    X, y = rng.standard_normal((4, 3, 64, 64)).astype(np.float32), np.array([0, 6, 2, 1])
    loss = torch.nn.functional.cross_entropy(net(torch.tensor(X).double()), torch.tensor(y))
    loss.backward()
    got, grads = loaded.loss(X, y)
    assert got == pytest.approx(loss.item(), rel=1e-4)
    for name in ("conv1.weight", "layer2.0.downsample.1.weight", "layer4.1.conv2.weight"):
        want = dict(net.named_parameters())[name].grad.numpy()
        assert np.abs(grads[name] - want).max() < 1e-3 * np.abs(want).max(), name
    statistics = loaded.bn_params[0]["running_mean"]
    np.testing.assert_allclose(statistics, net.bn1.running_mean.numpy(), rtol=1e-4, atol=1e-5)


def test_a_trunk_needs_no_more_than_the_file(arrays, tmp_path, rng):
    safetensors.save(arrays, tmp_path / "resnet18.safetensors")
    trunk = open_trunk(tmp_path / "resnet18.safetensors")
    assert (trunk.input_dim, trunk.num_classes) == ((3, 224, 224), 512)
    assert trunk.preprocess == NORMALIZATIONS["torchvision"]
    own = Normalization(127.5, 127.5)
    other = open_trunk(tmp_path / "resnet18.safetensors", "layer3.1", own, (64, 64), "resnet18")
    assert (other.input_dim, other.num_classes, other.preprocess) == ((3, 64, 64), 256, own)


def altered(arrays, **changes):
    found = {**arrays, **{name.replace("__", "."): value for name, value in changes.items()}}
    return {name: value for name, value in found.items() if value is not None}


@pytest.mark.parametrize(
    ("file", "network", "changes", "text"),
    [
        ("model", None, {}, "has the arrays of resnet18; if it is that network, name it"),
        ("resnet18d", None, {}, "if it is that network, name it"),
        ("resnet18", "resnet34", {}, "has the arrays of resnet18, not of resnet34"),
        ("resnet18", None, {"fc__weight": None}, "there is no fc.weight"),
        ("resnet18", None, {"layer4__1__bn2__bias": None}, "there is no layer4.1.bn2.bias"),
        ("resnet18", None, {"layer2__0__se__weight": np.ones(3)}, "layer2.0.se.weight belong to no layer"),
        ("resnet18", None, {"bn1__weight": np.ones(63)}, "bn1"),
        ("resnet18", None, {"conv1__weight": np.ones((64, 3))}, "conv1.weight must be floats of 4 axes"),
        ("resnet18", None, {"fc__weight": np.ones((7, 512), int)}, "fc.weight must be floats of 2 axes"),
        (
            "resnet18",
            None,
            {"layer1__0__conv2__weight": np.ones((64, 7, 3, 3))},
            r"shape \(64, 7, 3, 3\), behind 64",
        ),
    ],
)
def test_other_files_are_refused(arrays, tmp_path, file, network, changes, text):
    safetensors.save(altered(arrays, **changes), tmp_path / f"{file}.safetensors")
    with pytest.raises(ValueError, match=rf"{file}\.safetensors .*{text}"):
        load_torchvision(tmp_path / f"{file}.safetensors", network, 64)


@pytest.mark.parametrize("name", ["squeezenet1_1", "alexnet", "mobilenet_v3_small", "densenet121"])
def test_other_networks_are_to_be_exported(name, tmp_path):
    net = models.get_model(name, weights=None)
    if name == "alexnet":
        net.classifier[1] = torch.nn.Linear(256 * 6 * 6, 4)
        net.classifier[4], net.classifier[6] = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4)
    safetensors.save(arrays_of(net), tmp_path / "net.safetensors")
    with pytest.raises(
        ValueError, match=r"has not the arrays of a network that is built here.*torch\.onnx\.export"
    ):
        load_torchvision(tmp_path / "net.safetensors", name)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "vgg11"])
def test_altered_arrays_are_refused_in_words(name, monkeypatch, rng):
    """An array that is missing or of another shape or kind: a ValueError, or a network all the same."""
    original = arrays_of(module(name))
    names = [key for key in original if not key.endswith("num_batches_tracked")]
    said = []
    for _ in range(100):
        key = names[rng.integers(len(names))]
        shape = [int(rng.choice([0, 1, 2, 3, n])) for n in original[key].shape][: rng.integers(5)]
        changed = np.ones(shape, rng.choice(["f4", "f8", "i4", "?"])) if rng.random() < 0.8 else None
        arrays = {**original, key: changed} if changed is not None else dict(original)
        if changed is None:
            del arrays[key]
        monkeypatch.setattr(safetensors, "load", lambda path, arrays=arrays: arrays)
        try:
            load_torchvision(f"{name}.safetensors", size=64)
        except ValueError as error:
            said.append(str(error))
    assert len(said) > 80
    assert all(text.startswith(f"{name}.safetensors ") for text in said)
