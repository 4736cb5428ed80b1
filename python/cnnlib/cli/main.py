"""The command ``cnnlib``: reads the options, runs the command, turns errors into one line."""

import argparse
import contextlib
import importlib
import os
import sys
import traceback

import cnnlib
from cnnlib.cli.options.arguments import add_debug
from cnnlib.cli.output import complain
from cnnlib.cli.run.signals import how_it_ended, terminable

_COMMANDS = {  # and their modules
    **{"train": "train", "eval": "evaluate", "predict": "predict", "report": "report.command"},
    **{name: name for name in ("serve", "export", "bench", "benchmark", "info", "completion")},
}
_NOT_IN_FILES = ("command", "config", "debug", "execute", "save_config")


class _UsageError(ValueError):
    """The options are wrong."""


class _Parser(argparse.ArgumentParser):
    def __init__(self, **options):
        """No option is short for another: --lr would be --lr-decay."""
        super().__init__(**options, allow_abbrev=False)

    def error(self, message):
        """One line, and status 2, like any other error of the command."""
        raise _UsageError(message)


def main(arguments=None):
    """Run the command line `arguments` (by default the process's own); returns the exit status."""
    options = None
    if arguments is None:
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is None:  # closed by whoever started us
                setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
            elif hasattr(stream, "reconfigure"):  # in another encoding than UTF-8: escape what it lacks
                stream.reconfigure(errors="backslashreplace")
    try:
        options = _options(sys.argv[1:] if arguments is None else list(arguments))
        # mpiexec ends its ranks with SIGTERM, and they are not to take their time.
        alone = not getattr(options, "distributed", False)
        if alone and getattr(options, "threads", None) is not None:
            cnnlib.set_num_threads(options.threads)
        with terminable() if alone else contextlib.nullcontext():
            status = options.execute(options)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt as error:
        how, status = how_it_ended(error)
        complain(how)
        return status
    except BrokenPipeError:  # whoever read our output has had enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ArithmeticError, ImportError, MemoryError, OSError, TypeError, ValueError) as error:
        if getattr(options, "debug", False):
            traceback.print_exc()
        complain(f"error: {str(error) or type(error).__name__}")
        return 2


def _options(arguments):
    """The options, with those of a --config file, which the command line overrides."""
    parser = build_parser(arguments[0] if arguments else None)
    options = parser.parse_args(arguments)
    path = getattr(options, "config", None)
    if path is None:
        return options
    from cnnlib.cli.options.config_file import arguments_in  # which takes time, as the commands do

    known = {name: value for name, value in vars(options).items() if name not in _NOT_IN_FILES}
    from_file = arguments_in(path, known)
    try:
        parser.parse_args([options.command, *from_file])
    except _UsageError as error:
        raise ValueError(f"{path}: {error}") from None
    place = arguments.index(options.command) + 1
    return parser.parse_args([*arguments[:place], *from_file, *arguments[place:]])


def build_parser(command=None):
    """The parser of the whole command line, or of one command, whose module alone is then imported."""
    parser = _Parser(prog="cnnlib", description="Convolutional networks on the CPU: train, evaluate, predict")
    parser.add_argument("--version", action="version", version=f"cnnlib {cnnlib.__version__}")
    add_debug(parser)
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    shown = [command] if command in _COMMANDS else [] if command == "--version" else _COMMANDS
    for name in shown:
        module = importlib.import_module(f"cnnlib.cli.{_COMMANDS[name]}")
        module.add_to(commands)
        commands.choices[name].set_defaults(execute=module.run)
        add_debug(commands.choices[name])
    return parser
