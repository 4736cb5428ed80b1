"""``cnnlib bench``: the speed cells and the profile of a training step, as a try and not as a measurement."""

import importlib.util
import json

import pytest
from cnnlib.cli.main import main


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_speed_cells(tmp_path, capsys, dtype):
    file = tmp_path / "bench.json"
    assert main(["bench", "--quick", "--json", str(file), "--dtype", dtype, "--threads", "1"]) == 0
    out = capsys.readouterr().out
    result = json.loads(file.read_text())
    assert result["dtype"] == dtype
    rows = {row["name"]: row for row in result["rows"]}
    assert list(rows) == ["conv_forward", "conv_backward", "max_pool_forward", "max_pool_backward"]
    for name, row in rows.items():
        assert name in out
        assert row["speed_up"] == pytest.approx(row["naive_s"] / row["fast_s"])
        assert ("torch_s" in row) == (importlib.util.find_spec("torch") is not None)
    assert set(rows["conv_backward"]["difference"]) == {"dx", "dw", "db"}
    if dtype == "float64":
        assert max(max(row["difference"].values()) for row in rows.values()) < 1e-7
    assert rows["max_pool_forward"]["difference"] == {"out": 0}
    assert rows["max_pool_backward"]["difference"] == {"dx": 0}


@pytest.mark.parametrize("network", ["resnet8", "vgg-small"])
def test_profile(tmp_path, capsys, network):
    file = tmp_path / "profile.json"
    arguments = ["bench", "--profile", "--quick", "--network", network, "--batch-size", "3"]
    assert main([*arguments, "--json", str(file), "--threads", "1"]) == 0
    out = capsys.readouterr().out
    result = json.loads(file.read_text())
    assert (result["network"], result["images"], result["dtype"]) == (network, 3, "float32")
    profile = result["profile"]
    names = [layer["name"] for layer in profile["layers"]]
    assert names[0].startswith("conv ")
    assert names[0].endswith(" + batchnorm + relu")
    assert profile["layers"][0]["shape"] == [3, 3, 32, 32]
    assert names[-1] == "affine 10"
    assert "softmax_loss" not in names
    for layer in profile["layers"]:
        assert f"{layer['name']} {'x'.join(map(str, layer['shape']))}" in out
        assert layer["forward"] > 0
        assert layer["backward"] > 0
    spent = sum(layer["forward"] + layer["backward"] for layer in profile["layers"])
    assert 0 < profile["loss"] < profile["total"]
    assert 0 < profile["update"] < profile["total"]
    assert spent + profile["loss"] + profile["update"] < profile["total"]
    shares = [float(line.split()[-1].rstrip("%")) for line in out.splitlines() if line.endswith("%")]
    assert sum(shares) == pytest.approx(100, abs=0.1 * len(shares))
    counts = f"buffers per step: {profile['buffers']:.0f}, from the system: {profile['fresh_buffers']:.1f}"
    assert counts in out
    assert profile["buffers"] > len(names) > profile["fresh_buffers"]
    assert profile["steps"] == 2
    assert f"page faults per step: {profile['page_faults']:.1f}" in out


def test_profile_leaves_the_layers_alone():
    from cnnlib import layers
    from cnnlib.models import graph_model as common

    before = [getattr(layers, name) for name in layers.__all__], common.softmax_loss
    assert main(["bench", "--profile", "--quick", "--network", "resnet8", "--batch-size", "2"]) == 0
    assert before == ([getattr(layers, name) for name in layers.__all__], common.softmax_loss)
