"""``cnnlib info``: what is installed and what it runs with; how a convolution or a network is computed."""

import argparse
from importlib.metadata import PackageNotFoundError, version

import cnnlib
from cnnlib.cli.options.arguments import add

_OPTIONAL = ("matplotlib", "tqdm", "pooch", "Pillow", "filelock", "tensorboardX")
_PARAM = ("stride", "pad", "dilation", "groups", "algorithm")


def add_to(commands):
    info = commands.add_parser(
        "info",
        help="versions, instruction set, threads, optional packages; plans of a convolution, a network",
    )
    about = "how a convolution of these shapes is computed: methods, costs, blocks, scratch, threads"
    add(info, "--conv", about, nargs=2, type=_shape, metavar=("N,C,H,W", "F,C,KH,KW"))
    for spec in ("--stride N", "--pad N|same", "--dilation N", "--groups N"):
        add(info, spec, "of that convolution", type=lambda text: int(text) if text.isdecimal() else text)
    add(info, "--algorithm NAME", "the method that it should take")
    add(info, "--dtype float32|float64", "of its arrays; default: float32")
    add(info, "--model FILE", "the network in a file, and whether the core trains it as a whole")


def run(options):
    if options.conv:
        param = {name: getattr(options, name) for name in _PARAM if getattr(options, name) is not None}
        print(cnnlib.explain(*(*options.conv, param, options.dtype or "float32")))
        return 0
    for name in (*_PARAM, "dtype"):
        if getattr(options, name) is not None:
            raise ValueError(f"--{name} goes with --conv")
    if options.model:
        model = cnnlib.load(options.model)
        print(model)
        print(f"executor: {getattr(model, 'executor', 'compiled, prepared')}")
        if hasattr(model, "scores_executor"):
            print(f"executor of scores: {model.scores_executor}")
        return 0
    cnnlib.show_config()
    found = []
    for package in _OPTIONAL:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} not installed")
    print(f"optional packages: {', '.join(found)}")
    return 0


def _shape(text):
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not four whole numbers with commas between") from None
