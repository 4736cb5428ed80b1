"""The command ``cnnlib``: reads the options, runs the command, turns errors into one line."""

import argparse
import os
import sys

import cnnlib
from cnnlib.cli import bench, evaluate, info, predict, train

_COMMANDS = (train, evaluate, predict, bench, info)


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        """One line, and status 2, like any other error of the command."""
        _complain(message)
        raise SystemExit(2)


def main(arguments=None):
    """Run the command line `arguments` (by default the process's own); returns the exit status."""
    try:
        options = _parser().parse_args(arguments)
        status = options.execute(options)
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
    for command in _COMMANDS:
        command.add_to(commands)
    return parser
