"""The command ``cnnlib``: training, evaluation, prediction, benchmarks and information."""

import argparse
import importlib
import os
import sys
import textwrap

import cnnlib
from cnnlib.cli.settings import (
    DATA_NAMES,
    KEEP,
    MODEL_OPTIONS,
    SPECS,
    TTA,
    UPDATE_RULES,
    defaults,
    has_defaults,
)
from cnnlib.recipes import RECIPES

_TRAIN_EPILOG = """\
The run folder holds the newest checkpoint, history.csv, config.json and, where matplotlib is installed,
curves.png, filters.png, confusion.png and mistakes.png. Without --out it is runs/<data>-<number>, with the
next number; a folder given with --out must be empty or new, unless --overwrite says otherwise.

A recipe is a set of settings that belong together, which the other options override.

"""


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        """One line, and status 2, like any other error of the command."""
        _complain(message)
        raise SystemExit(2)


def main(arguments=None):
    """Run the command line `arguments` (by default the process's own); returns the exit status."""
    try:
        options = _parser().parse_args(arguments)
        status = importlib.import_module(f"cnnlib.cli.{options.module}").run(options)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        print("cnnlib: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read our output has had enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ArithmeticError, ImportError, MemoryError, OSError, TypeError, ValueError) as error:
        _complain(str(error) or type(error).__name__)
        return 2


def _complain(message):
    print(f"cnnlib: error: {' '.join(message.split())}", file=sys.stderr)


def _parser():
    parser = _Parser(
        prog="cnnlib", description="Convolutional networks on the CPU: train, evaluate, predict."
    )
    parser.add_argument("--version", action="version", version=f"cnnlib {cnnlib.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    _add_train(commands)
    _add_eval(commands)
    _add_predict(commands)
    _add_bench(commands)
    info = commands.add_parser("info", help="versions, instruction set, threads, optional packages")
    info.set_defaults(module="info")
    return parser


def _add_train(commands):
    train = commands.add_parser(
        "train",
        help="train a model, leave a run folder",
        description="Train a model, report its accuracy on the test split, leave a run folder.",
        epilog=_TRAIN_EPILOG + _recipe_table() + "\n\ndefaults by data set and model:\n" + _defaults_table(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    train.set_defaults(module="train")
    _add_data(train, "the embedded digits (the default), or CIFAR-10 from DIR ($CNNLIB_DATA or ./data)")
    train.add_argument("--recipe", choices=RECIPES, help="settings that belong together, see below")
    train.add_argument("--model", choices=MODEL_OPTIONS, help="default: three-layer, or the recipe's")
    train.add_argument("--out", metavar="FOLDER", help="the run folder")
    train.add_argument("--overwrite", action="store_true", help="replace the run that is in the --out folder")
    train.add_argument(
        "--resume", metavar="RUN|FILE", help="go on with the run in this folder, or from this checkpoint"
    )
    train.add_argument(
        "--keep-checkpoints", action="store_true", help="keep every epoch's, not only the newest"
    )
    _add_threads(train)

    how = train.add_argument_group("training")
    how.add_argument("--update-rule", choices=UPDATE_RULES)
    how.add_argument("--learning-rate", type=_positive_number, metavar="X")
    how.add_argument("--momentum", type=_number, metavar="X", help="of the momentum rules; default: 0.9")
    how.add_argument(
        "--rate-factors",
        type=_factors,
        metavar="NAME=X[,...]",
        help="factors on the learning rate of some parameters, say beta=64,W1=0.1; or none",
    )
    how.add_argument(
        "--lr-decay", type=_positive_number, metavar="X", help="factor on the learning rate after each epoch"
    )
    how.add_argument(
        "--schedule",
        type=_named,
        metavar="NAME[:K=X...]",
        help="step, cosine, one-cycle or triangle, say cosine:warmup=2",
    )
    how.add_argument(
        "--weight-decay", type=_number, metavar="X", help="decoupled: w -= learning rate * X * w"
    )
    how.add_argument("--clip-norm", type=_positive_number, metavar="X", help="largest norm of all gradients")
    how.add_argument("--label-smoothing", type=_number, metavar="X", help="share of a label spread evenly")
    how.add_argument("--ema-decay", type=_number, metavar="X", help="average the weights over training")
    how.add_argument(
        "--lookahead",
        type=_lookahead,
        metavar="K=X[:K=X...]",
        help="slow weights that the others return to, say steps=5:decay=0.95:power=3; or none",
    )
    how.add_argument(
        "--augment",
        type=_named_list,
        metavar="NAME[:K=X...][,...]",
        help="flip, alternating-flip, crop, cutout, say flip,crop:pad=4; none for the images as they are",
    )
    how.add_argument(
        "--tta", choices=("none", *TTA), help="average the test images' scores over views, and eval's alike"
    )
    how.add_argument("--keep", choices=KEEP, help="the epoch whose weights count; default: best")
    how.add_argument("--epochs", type=_positive_int, metavar="N", help="with --resume: the run's new end")
    how.add_argument("--batch-size", type=_positive_int, metavar="N")
    how.add_argument("--seed", type=_seed, metavar="N", help="makes the run repeatable")

    what = train.add_argument_group("model")
    what.add_argument("--num-filters", type=_positive_int, metavar="N")
    what.add_argument("--filter-size", type=_positive_int, metavar="N")
    what.add_argument(
        "--hidden-dim", type=_sizes, metavar="N[,N...]", help="several for a fully-connected model"
    )
    what.add_argument("--reg", type=_number, metavar="X", help="strength of L2 regularisation")
    what.add_argument(
        "--weight-scale", type=_number, metavar="X", help="standard deviation of the first weights"
    )
    what.add_argument("--batchnorm", action=argparse.BooleanOptionalAction, help="use batch normalisation")
    what.add_argument("--dtype", choices=("float32", "float64"))
    what.add_argument("--summary", action="store_true", help="print shapes, parameters and multiply-adds")


def _add_eval(commands):
    evaluate = commands.add_parser("eval", help="accuracy of a run's model")
    evaluate.set_defaults(module="evaluate")
    _add_run(evaluate)
    _add_data(evaluate, "where the run's data set lies, if it has moved")
    evaluate.add_argument("--split", choices=("train", "val", "test"), default="test", help="default: test")
    evaluate.add_argument(
        "--which", choices=("best", "last"), default="best", help="parameters; default: best"
    )
    evaluate.add_argument(
        "--tta", choices=("none", *TTA), help="average the scores over views; default: as the run did"
    )
    _add_threads(evaluate)


def _add_predict(commands):
    predict = commands.add_parser(
        "predict",
        help="classes of image files",
        description="Print the class of each image file and its probability. Photographs are cropped to the "
        "middle and scaled to the model's input; writing, dark on bright or bright on dark, to its ink.",
    )
    predict.set_defaults(module="predict")
    _add_run(predict)
    predict.add_argument("images", nargs="+", metavar="IMAGE", help="PNG, JPEG or what else Pillow reads")
    predict.add_argument(
        "--top", type=_positive_int, default=1, metavar="K", help="print the K likeliest classes"
    )
    _add_threads(predict)


def _add_bench(commands):
    bench = commands.add_parser(
        "bench",
        help="speed of the kernels",
        description="Time the compiled kernels, the loop versions and, if it is installed, PyTorch on the "
        "speed cells of the course notebook. The loops take half a minute. With --profile instead: where a "
        "training step of a network goes, on random images.",
    )
    bench.set_defaults(module="bench")
    bench.add_argument("--json", metavar="FILE", help="write the figures to FILE as well")
    bench.add_argument(
        "--dtype", choices=("float32", "float64"), help="default: float64, with --profile float32"
    )
    bench.add_argument(
        "--quick", action="store_true", help="2 images instead of 100, 2 steps: a try, not a measurement"
    )
    bench.add_argument(
        "--profile",
        action="store_true",
        help="time, share and page faults of a step's layers, loss and update",
    )
    bench.add_argument("--network", choices=SPECS, help="with --profile; default: vgg-small")
    bench.add_argument(
        "--batch-size", type=_positive_int, metavar="N", help="with --profile: images; default: 64"
    )
    _add_threads(bench)


def _add_run(parser):
    parser.add_argument("run", metavar="RUN", help="a run's folder, or a checkpoint in it")


def _add_data(parser, help):
    parser.add_argument("--data", metavar=f"{'|'.join(DATA_NAMES)}[:DIR]", help=help)


def _add_threads(parser):
    parser.add_argument(
        "--threads", type=_positive_int, metavar="N", help="threads of the kernels; default: all cores"
    )


def _recipe_table():
    return "\n".join(line for name, recipe in RECIPES.items() for line in _table(f"recipe {name}", recipe))


def _defaults_table():
    lines = []
    for data in DATA_NAMES:
        for model in MODEL_OPTIONS:
            if model in SPECS[1:]:  # as the first of them
                continue
            names = [name for name in (SPECS if model in SPECS else [model]) if has_defaults(data, name)]
            lines += _table(f"  {data}, {', '.join(names)}", defaults(data, model))
    return "\n".join(lines)


def _table(title, settings):
    pairs = [
        f"{name.replace('_', '-')} {_plain(value)}" for name, value in settings.items() if value is not None
    ]
    indent = " " * (len(title) - len(title.lstrip()) + 2)
    text = ", ".join(pair.replace(" ", "\xa0") for pair in pairs)  # no line ends within a pair
    rows = textwrap.wrap(text, 104, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False)
    return [f"{title}:", *(row.replace("\xa0", " ") for row in rows)]


def _plain(value):
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        name = [value["name"]] if "name" in value else []
        return ":".join([*name, *(f"{k}={v}" for k, v in value.items() if k != "name")])
    return ",".join(map(_plain, value)) if isinstance(value, list) else f"{value}"


def _positive_int(text):
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected an integer above 0, got {text!r}")
    return int(text)


def _seed(text):
    if not text.isascii() or not text.isdigit() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f"expected an integer from 0 to 4294967295, got {text!r}")
    return int(text)


def _sizes(text):
    return [_positive_int(part) for part in text.split(",")]


def _named(text):
    """``name:key=value:key=value`` as a dict with 'name'; numbers become numbers."""
    name, *pairs = text.split(":")
    return {"name": name, **_pairs(pairs, "NAME:KEY=VALUE", text)}


def _lookahead(text):
    return text if text == "none" else _pairs(text.split(":"), "KEY=VALUE", text)


def _factors(text):
    return text if text == "none" else _pairs(text.split(","), "NAME=NUMBER", text)


def _pairs(pairs, expected, text):
    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals and value):
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text!r}")
        try:
            settings[key] = int(value) if value.isdigit() else float(value)
        except ValueError:
            settings[key] = value
    return settings


def _named_list(text):
    return [] if text == "none" else [_named(part) for part in text.split(",")]


def _number(text):
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, got {text!r}")
    return value


def _positive_number(text):
    value = _number(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value
