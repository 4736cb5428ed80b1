"""``cnnlib benchmark``: a network of yours beside the engines that are installed."""

import importlib

import numpy as np

import cnnlib
from cnnlib._params import hint
from cnnlib.benchmarking import benchmark
from cnnlib.benchmarking.comparison import PRECISIONS
from cnnlib.benchmarking.engines import ENGINES
from cnnlib.cli.options.arguments import FORMS, add, positive_int, positive_number
from cnnlib.cli.output import say
from cnnlib.models.graph_model import input_dim_of

_SIZE = 224  # height and width of images for torchvision's networks
_ZOOS = ("torchvision", "timm")


def add_to(commands):
    parser = commands.add_parser(
        "benchmark",
        help="a network of yours beside PyTorch, ONNX Runtime, OpenVINO and ncnn",
        description="Compare the scores of a network in cnnlib with those of the engines that are installed, "
        "then time them in turns, on random images. Prints a chart and a table to paste.",
    )
    what = "a run's folder, a file: a saved model, or ONNX; or an untrained network of torchvision or timm"
    add(parser, "network FILE|RUN|torchvision:NAME|timm:NAME", what)
    add(parser, "--batch N", "images of a call; default: 1 8", nargs="+", type=positive_int, default=[1, 8])
    how = {**FORMS["threads"], "metavar": "N", "nargs": "+", "dest": "thread_counts"}
    parser.add_argument("--threads", help="each number is timed by itself; default: all cores", **how)
    add(parser, "--precision NAME", "of cnnlib's; default: float32", nargs="+", choices=PRECISIONS)
    add(parser, "--peers NAME", "default: those that are installed", nargs="*", choices=tuple(ENGINES))
    add(parser, "--train", "time a step of training instead, in cnnlib and PyTorch")
    add(parser, "--seconds X", "time of the calls of each row; default: 2", type=positive_number, default=2.0)
    add(parser, "--no-memory", "measure no memory, for which each row runs in a process of its own")


def run(options):
    network, input_dim = _opened(options.network)
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


def _opened(name):
    """The network, a model or a module of PyTorch, and the shape of a sample."""
    zoo, colon, rest = name.partition(":")
    if colon and zoo in _ZOOS:
        return _of_zoo(zoo, rest)
    model = cnnlib.load(name)
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
