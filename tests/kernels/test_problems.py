"""One line says a problem: what was found is replayed, the search tries more, and makes failures small."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import cnnlib
import numpy as np
import pytest
from cnnlib import _core
from problems import layers, line, networks, run, search
from test_conv_methods import CASES

DRIVER = Path(run.__file__).with_name("driver.py")
FOUND = line.parse_file(networks.LINES / "found.txt")
SEARCHED = 120  # problems, against the loops
BITS = 40  # problems, some 20 seconds
# A line of each layer, with what is not as usual: layouts, engines, methods, options.
EACH = """
conv dx f64 n2c64h12f8k1 t5 algorithm=pixel-lanes
conv n2c4h9w8f6k3p1x2x0x1s2x1r1x2g2 engine=pool
conv_relu n2c4h9w8f6k3 pad=same layout=reversed
conv_bn_relu n2c4h9w8f6k3p1
conv_bn_relu f64 n2c4h9w8f6k3p1 mode=test
conv_relu_pool n2c4h9w8f6k3p1 pool=3
conv_bn_relu_pool f64 n2c4h9w8f6k3p1
conv1d n2c4w19f6k3p1s2r2
conv3d n2c4d5h6w4f6k3x2x2p1 layout=swapped
conv_transpose n2c4h9w8f6k3p1s2o1
max_pool n2c4h9w8k3x2s2p1x0 ceil_mode=1
avg_pool n2c4h9w8k3s2p1 count_include_pad=0 layout=guarded
max_pool1d n2c4w9k3
avg_pool1d n2c4w9k3
max_pool3d n2c4d5k2
avg_pool3d n2c4d5k2s1x2x1
adaptive_avg_pool n2c3h7k3x2
adaptive_max_pool n2c3h7k3x2
upsample n2c3h7k2 mode=bilinear align_corners=1
batchnorm n9c5 eps=0.001
spatial_batchnorm n3c5h4 mode=test
layernorm n3c9 layout=unaligned
spatial_layernorm n3c5h4
spatial_groupnorm n3c6h4g3
spatial_instancenorm n3c6h4 layout=fortran
affine n3c20f7 layout=strided
affine_relu n3c20f7
affine_bn_relu n9c20f7
relu n3c4h5 layout=readonly
leaky_relu n3c4h5 alpha=0.2
relu6 n3c4d2h5
sigmoid n3c4h5
tanh n3c4
silu n3c4h5
hard_sigmoid n3c4h5
hard_swish n3c4h5
gelu n3c4h5 approximate=tanh
elu n3c4h5 alpha=0.5
dropout n3c4h5 p=0.3
softmax n3c4h5
global_avg_pool n3c4h5
attention n2h4g2l5m6c4f3 causal=1 bias=1
softmax_loss n5c4
svm_loss n5c4
cross_entropy n5c4
mse_loss n5c4h3
l1_loss n5c4
huber_loss n5c4
bce_loss n5c4
dice_loss n5c4h5
""".strip().splitlines()


def driver(*arguments):
    """Run the driver in a process of its own."""
    return subprocess.run([sys.executable, DRIVER, *arguments], capture_output=True, text=True, timeout=600)


@pytest.mark.parametrize("text", EACH)
def test_a_line_of_each_layer(text):
    """It is read, written alike, equals the loops, and its bits depend on nothing."""
    problem = line.parse(text)
    assert line.parse(str(problem)) == problem
    tried = run.Run(problem)
    assert list(run.errors(tried)) == []
    assert list(run.differing_bits(tried)) == []


def test_every_layer_has_a_line():
    assert {line.parse(text).layer for text in EACH} == set(layers.NAMES)
    public = {
        name.removesuffix("_forward") for name in cnnlib.layers.__all__ if not name.endswith("_backward")
    }
    assert public - {"softmax"} == set(layers.NAMES) - {"softmax"}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "has no sizes"),
        ("conv f32", "has no sizes"),
        ("conv f16 n2c3h4", "sizes twice"),
        ("conv n2c3h4 dz", "'dz' in"),
        ("conv n2c3y4", "'y' in"),
        ("conv n2c3n4", "'n' in .* stands twice"),
        ("cnov n2c3h4f5k1", "no layer is called 'cnov'"),
        ("conv n2c3f5k1", "conv needs one number for 'h'"),
        ("conv n2c3h4f5k1 algoritm=direct", "conv takes no algoritm"),
        ("conv n2c3h4f5k1x1x1", "'k' takes 1 or 2 numbers"),
        ("conv n2c3h4f5k1 layout=odd", "layout is one of plain, .* not 'odd'"),
        ("conv n2c3h4f5k1 engine=odd", "engine is one of openmp, pool, not 'odd'"),
        ("relu dw n2c3h4", "a result is one of out, dx, not 'dw'"),
        ("conv n2c3h4f5k9", "conv_forward: "),
    ],
)
def test_lines_that_say_nothing_are_refused(text, named):
    with pytest.raises(ValueError, match=named):
        run.Run(line.parse(text))


def test_a_pass_alone_is_run_alone(monkeypatch):
    """Gradients that the line does not name are not computed."""
    asked = []
    backward = cnnlib.conv_backward
    noted = lambda *arguments, needs=None: asked.append(needs) or backward(*arguments, needs=needs)  # noqa: E731
    monkeypatch.setattr(cnnlib, "conv_backward", noted)
    results = run.Run(line.parse("conv dx dw n2c3h4f5k1")).results()
    assert asked == [("dx", "dw")]
    assert results[3] is None


@pytest.mark.parametrize("problem", FOUND, ids=str)
def test_what_was_found(problem):
    if problem.isa and problem.isa not in _core.available_isas():
        pytest.skip(f"this processor, or this build, has no {problem.isa}")
    assert list(run.differing_bits(run.Run(problem))) == []


@pytest.mark.parametrize("case", CASES)
def test_explain_says_the_line(case, dtype):
    (_, *image), w_shape, param = CASES[case]
    plans = cnnlib.explain((2, *image), w_shape, param, dtype)
    problem = line.parse(plans.problem)
    layer = layers.layer_of(problem)
    assert layer.shapes[:2] == ((2, *image), w_shape)
    assert problem.dtype == dtype.name
    assert cnnlib.explain(*layer.shapes[:2], *layer.rest(), problem.dtype) == plans
    assert str(plans).endswith(plans.problem)


@pytest.mark.parametrize(
    ("param", "words"),
    [
        ({"pad": "same"}, ["n2c4h9w8f6k3x2", "pad=same"]),
        ({"pad": ((1, 0), 2), "stride": np.int64(2)}, ["n2c4h9w8f6k3x2s2p1x0x2x2"]),
        ({"pad": [1, 0], "dilation": (1, 2)}, ["n2c4h9w8f6k3x2r1x2p1x0"]),
        ({"algorithm": "direct"}, ["n2c4h9w8f6k3x2", "algorithm=direct"]),
    ],
)
def test_explain_says_parameters_in_any_form(param, words):
    said = cnnlib.explain((2, 4, 9, 8), (6, 4, 3, 2), param).problem
    assert [word for word in said.split() if word.startswith(("n", "pad", "algorithm"))] == words
    layer = layers.layer_of(line.parse(said))
    x, w = (np.ones(shape, np.float32) for shape in layer.shapes[:2])
    got, _ = cnnlib.conv_forward(x, w, None, *layer.rest())
    np.testing.assert_array_equal(got, cnnlib.conv_forward(x, w, None, param)[0])


def test_a_failure_is_found_and_made_small():
    """The search's part: of all problems that fail, one that has no smaller neighbour which does."""
    begin = line.parse("conv f64 n5c40h30w31f16k3x5p2s2g4 t2,5,64 seed=9 algorithm=direct")

    def fails(problem):
        sizes = layers.layer_of(problem).shapes
        if sizes[1][1] == 7:  # refused, so no failure
            raise ValueError
        return sizes[0][2] >= 6 and max(problem.threads) >= 5

    smallest = search.shrunk(begin, fails)
    assert fails(smallest)
    assert str(smallest) == "conv f64 n1c1h6w1f1k1x1 t5"


def test_wrong_results_and_bits_are_failures(monkeypatch):
    """The modes themselves: a result that is wrong, or another one on other threads, is found and named."""
    forward = cnnlib.relu_forward

    def wrong(x):
        out, cache = forward(x)
        out.flat[5] += 1e-3 * (cnnlib.get_num_threads() - 1)
        return out, cache

    monkeypatch.setattr(cnnlib, "relu_forward", wrong)
    tried = run.Run(line.parse("relu n2c3h4 t3"))
    (text,) = run.errors(tried)
    assert text.startswith("out differs from the loops' by 0.00")
    assert text.endswith("most at (0, 0, 1, 1)")
    assert set(run.differing_bits(tried)) >= {"out on 1 and 3 threads", "out on 1 and 3 threads of the pool"}


def test_guarded_memory_ends_where_the_array_ends():
    """A read behind the last value ends the process."""
    code = (
        "import sys, ctypes; sys.path.insert(0, sys.argv[1]); import numpy as np\n"
        "from problems.memory import guarded\n"
        "a = guarded(np.arange(5.0)); print(a.sum(), flush=True)\n"
        "ctypes.string_at(a.ctypes.data + a.nbytes, 1)"
    )
    command = [sys.executable, "-c", code, str(DRIVER.parents[1])]
    process = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert process.stdout == "10.0\n"
    assert process.returncode < 0


def test_files_of_networks_are_those_of_the_benchmarks():
    for group, text in networks.texts().items():
        assert (networks.LINES / f"{group}.txt").read_text() == text, f"driver.py --write-networks: {group}"
        for problem in line.parse_file(networks.LINES / f"{group}.txt"):
            sizes = {"n": (1,), **problem.sizes}
            assert layers.layer_of(dataclasses.replace(problem, sizes=sizes)).name == "conv"


def test_lines_are_replayed_with_a_batch(tmp_path):
    file = tmp_path / "lines.txt"
    file.write_text("# two\nconv c3h8f4k3p1\n\nrelu n2c3h4  # one with a batch\n")
    process = driver("--file", str(file), "--batch", "5")
    assert process.stdout.splitlines() == ["conv f32 n5c3h8f4k3p1: sound", "relu f32 n2c3h4: sound"]
    assert process.returncode == 0


def test_timing_beside_pytorch():
    process = driver("--time", "--seconds-each", "0.01", "conv", "dw", "n2c3h8f4k3p1")
    assert process.returncode == 0, process.stderr
    assert process.stdout.startswith("conv dw f32 n2c3h8f4k3p1: backward ")


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [["--problems", str(SEARCHED)], ["--bits", "--problems", str(BITS)]], ids=["loops", "bits"]
)
def test_some_of_the_search(options, tmp_path):
    last = tmp_path / "last"
    process = driver("--search", "--last", str(last), *options)
    assert process.returncode == 0, process.stdout + process.stderr
    assert process.stdout.endswith(f"0 of {options[-1]} problems failed\n")
    assert line.parse(last.read_text()).layer in layers.NAMES
