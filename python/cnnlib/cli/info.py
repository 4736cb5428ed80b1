"""``cnnlib info``: what is installed and what it runs with; how a convolution or a network is computed."""

import argparse

import cnnlib
from cnnlib._system.packages import EXTRAS, describe_extra
from cnnlib.cli.options.arguments import add

_PARAM = ("stride", "pad", "dilation", "groups", "algorithm")


def add_to(commands):
    info = commands.add_parser(
        "info",
        help="versions, instruction set, threads, extras; plans of a convolution, a network",
    )
    about = "how a convolution of these shapes is computed: methods, costs, blocks, scratch, threads"
    add(info, "--conv", about, nargs=2, type=_shape, metavar=("N,C,H,W", "F,C,KH,KW"))
    for spec in ("--stride N", "--pad N|same", "--dilation N", "--groups N"):
        add(info, spec, "of that convolution", type=lambda text: int(text) if text.isdecimal() else text)
    add(info, "--algorithm NAME", "the method that it should take")
    add(info, "--dtype float32|float64", "of its arrays; default: float32")
    add(info, "--model FILE", "the network in a file, and whether the core trains it as a whole")


def run(options):
    if options.conv and options.model:
        raise ValueError("--conv and --model ask for two things: give one of them")
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
    print("extras:")
    width = max(map(len, EXTRAS))
    for name in EXTRAS:
        print(f"  {name:{width}}  {describe_extra(name)}")
    return 0


def _shape(text):
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not four whole numbers with commas between") from None
