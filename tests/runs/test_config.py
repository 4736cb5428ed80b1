"""A run's config.json: what is written is read again; what does not fit is refused by name."""

import dataclasses
import json

import pytest
from cnnlib.data import Normalization
from cnnlib.runs import Run
from cnnlib.runs.config import CONFIG, RunConfig
from cnnlib.runs.data_sets import Source
from cnnlib.runs.networks import Network
from cnnlib.runs.tasks import Scale

THREE_LAYER = Network("three-layer", {"num_filters": 2, "dtype": "float32", "input_dim": [1, 8, 8]})
COLOURED = Normalization((120.0, 110.0, 100.0), (60.0, 61.0, 62.0))
PHOTOS = Source(
    "folder", "/photos", size=(16, 24), channels=3, validation=0.1, test=0.2, skip_unreadable=True, names="ab"
)
CONFIGS = {
    "digits": RunConfig.of_new_run(
        source=Source("digits"),
        classes=tuple("0123456789"),
        normalization=Normalization(0.3, 0.4, 1.0, ink=True),
        training={"update_rule": "adam", "schedule": {"name": "cosine"}, "augment": [{"name": "flip"}]},
        network=THREE_LAYER,
        recipe="mine",
        log=("csv", "jsonl"),
        ranks=2,
    ),
    "values": RunConfig.of_new_run(
        source=Source("npy", "/arrays", task="values", size=(8, 8), channels=3),
        classes=("width", "height"),
        normalization=COLOURED,
        training={"tta": None},
        network=Network("resnet8", {"head": "values", "dtype": "float32"}),
        scale=Scale([0.5, 2.0], [1.5, 1.0]),
    ),
    "pixels": RunConfig.of_new_run(
        source=dataclasses.replace(PHOTOS, task="pixels", labels=False, skip_unreadable=False),
        classes=("red", "green", "blue"),
        normalization=COLOURED,
        training={},
        network=Network("unet", {"dtype": "float32"}),
    ),
    "from": RunConfig.of_new_run(
        source=PHOTOS,
        classes=("ant", "bee"),
        normalization=Normalization(127.5, 60.0),
        training={},
        began_with={"from": "/nets/net.onnx", "data": "folder:/photos"},
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_written_is_read_again(name, tmp_path):
    run, config = Run(tmp_path), CONFIGS[name]
    run.write_config(config)
    assert run.config == config
    again = Run.open(tmp_path)
    assert again.config == config
    assert again.data_set == config.data_set
    assert json.loads((tmp_path / CONFIG).read_text()) == json.loads(json.dumps(config.content()))


def test_what_is_as_by_default_is_not_written():
    assert CONFIGS["digits"].content()["data"] == {"name": "digits", "folder": None}
    assert "skip_unreadable" not in CONFIGS["pixels"].content()["data"]
    assert "targets" not in CONFIGS["pixels"].content()
    assert CONFIGS["from"].content()["model"] == {"file": "model.npz"}


def test_a_change_is_written(tmp_path):
    run = Run(tmp_path)
    run.write_config(CONFIGS["digits"])
    before = (tmp_path / CONFIG).stat().st_mtime_ns
    run.write_changed({}, CONFIGS["digits"].log)
    assert (tmp_path / CONFIG).stat().st_mtime_ns == before
    run.write_changed({"num_epochs": 3}, ["csv"])
    changed = Run.open(tmp_path).config
    assert (changed.training["num_epochs"], changed.log) == (3, ("csv",))
    assert (
        dataclasses.replace(changed, training=CONFIGS["digits"].training, log=("csv", "jsonl"))
        == (CONFIGS["digits"])
    )


@pytest.mark.parametrize(
    ("name", "change", "place"),
    [
        ("values", {"targets": 3}, "targets"),
        ("values", {"targets": {"mean": [0.5]}}, "targets"),
        ("values", {"targets": {"mean": [0.5, "x"], "std": [1, 1]}}, "targets"),
        ("values", {"preprocessing": {"mean": [1, 2, 3], "std": [1], "white": 255}}, "preprocessing"),
        ("pixels", {"data": {**CONFIGS["pixels"].content()["data"], "labels": "x"}}, "data labels"),
        ("digits", {"model": {"file": "model.npz"}}, "model"),
        ("digits", {"model": {**vars(THREE_LAYER), "more": 1}}, "model"),
        ("from", {"from": 3}, "from"),
        ("digits", {"recipe": 3}, "recipe"),
        ("digits", {"log": "csv"}, "log"),
        ("digits", {"ranks": "2"}, "ranks"),
        ("digits", {"threads": None}, "threads"),
        ("digits", {"versions": []}, "versions"),
        ("digits", {"preprocessing": {"mean": [0], "std": [1], "white": 0}}, "preprocessing white"),
        ("from", {"data": {**PHOTOS.content(), "names": 3}}, "data names"),
        ("from", {"data": {**PHOTOS.content(), "skip_unreadable": 3}}, "data skip_unreadable"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(name, change, place, tmp_path):
    content = {**CONFIGS[name].content(), **change}
    (tmp_path / CONFIG).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"config\.json is damaged: it cannot have {place} "):
        Run.open(tmp_path)


def test_nothing_stands_in_for_what_is_missing(tmp_path):
    """Of the parts that every run has."""
    content = CONFIGS["digits"].content()
    for name in content.keys() - {"classes"}:  # the embedded data set has its own
        lacking = {key: value for key, value in content.items() if key != name}
        (tmp_path / CONFIG).write_text(json.dumps(lacking))
        with pytest.raises(ValueError, match=r"config\.json"):
            Run.open(tmp_path)
