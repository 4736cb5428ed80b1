"""``cnnlib benchmark``: a network of yours beside the engines that are installed."""

import importlib
from pathlib import Path

import numpy as np

import cnnlib
from cnnlib._params import hint
from cnnlib.benchmarking import benchmark
from cnnlib.benchmarking.comparison import PRECISIONS
from cnnlib.benchmarking.engines import ENGINES
from cnnlib.cli.options.arguments import FORMS, add, add_network, add_which, positive_int, positive_number
from cnnlib.cli.output import say
from cnnlib.cli.run.trained import network_options, read_arrays, refuse_network, refuse_which
from cnnlib.models.graph_model import input_dim_of
from cnnlib.runs.folder import Run
from cnnlib.saved_model.kinds import kind_of

_SIZE = 224  # height and width of images for torchvision's networks
_ZOOS = ("torchvision", "timm")


def add_to(commands):
    parser = commands.add_parser(
        "benchmark",
        help="a network of yours beside PyTorch, ONNX Runtime, OpenVINO and ncnn",
        description="Compare the scores of a network in cnnlib with those of the engines that are installed, "
        "then time them in turns, on random images. Prints a chart and a table to paste.",
    )
    what = (
        "a run's folder, a checkpoint in it, or a file: a saved model, ONNX, or safetensors of a --network; "
        "or an untrained network of torchvision or timm"
    )
    add(parser, "run RUN|FILE|torchvision:NAME|timm:NAME", what)
    add_which(parser)
    add_network(parser)
    add(parser, "--batch N", "images of a call; default: 1 8", nargs="+", type=positive_int, default=[1, 8])
    how = {**FORMS["threads"], "metavar": "N", "nargs": "+", "dest": "thread_counts"}
    parser.add_argument("--threads", help="each number is timed by itself; default: all cores", **how)
    add(parser, "--precision NAME", "of cnnlib's; default: float32", nargs="+", choices=PRECISIONS)
    add(parser, "--peers NAME", "default: those that are installed", nargs="*", choices=tuple(ENGINES))
    add(parser, "--train", "time a step of training instead, in cnnlib and PyTorch")
    add(parser, "--seconds X", "time of the calls of each row; default: 2", type=positive_number, default=2.0)
    add(parser, "--no-memory", "measure no memory, for which each row runs in a process of its own")


def run(options):
    network, input_dim = _opened(options)
    for threads in options.thread_counts or [cnnlib.get_num_threads()]:
        for batch in options.batch:
            images = np.random.default_rng(0).standard_normal((batch, *input_dim)).astype(np.float32)
            found = benchmark(
                network,
                images,
                precision=options.precision or "float32",
                threads=threads,
                peers=options.peers,
                train=options.train,
                seconds=options.seconds,
                memory=not options.no_memory,
            )
            for line in str(found).splitlines():
                say(line, fold=False)
            say("", fold=False)
    return 0


def _opened(options):
    """The network, a model or a module of PyTorch, and the shape of a sample."""
    name = options.run
    zoo, colon, rest = name.partition(":")
    if colon and zoo in _ZOOS:
        refuse_network(name, network_options(options))
        refuse_which(options.which, name, "an untrained network")
        return _of_zoo(zoo, rest)
    if Path(name).is_file() and kind_of(name) == "safetensors":
        refuse_which(options.which, name, "a safetensors file")
        model = read_arrays(name, network_options(options))
    else:
        refuse_network(name, network_options(options))
        model = (
            cnnlib.load(name) if options.which == "best" else Run.open(name).load_model(name, options.which)
        )
    if not callable(getattr(model, "graph", None)):
        raise ValueError(f"{name} is {model!r}, not a network that can be prepared: give the model's file")
    return model, input_dim_of(model)


def _of_zoo(zoo, name):
    """An untrained network of torchvision or timm: speed does not depend on the weights."""
    try:
        models = importlib.import_module("torchvision.models" if zoo == "torchvision" else "timm")
    except ImportError as error:
        raise ImportError(f"cnnlib benchmark {zoo}:{name} needs {zoo}: pip install {zoo}") from error
    known = models.list_models()
    if name not in known:
        raise ValueError(f"{zoo} has no network {name!r}; {hint(name, known, 'its list_models() has them')}")
    if zoo == "torchvision":
        return models.get_model(name, weights=None).eval(), (3, _SIZE, _SIZE)
    module = models.create_model(name, pretrained=False).eval()
    return module, tuple(module.default_cfg["input_size"])
