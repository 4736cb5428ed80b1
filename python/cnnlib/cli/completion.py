"""``cnnlib completion``: a script with which a shell completes the command's names and options."""

import argparse
import re

from cnnlib._system.packages import required
from cnnlib.cli.main import build_parser

SHELLS = ("bash", "zsh", "fish", "tcsh")
_EPILOG = """\
For good, in bash: cnnlib completion bash > ~/.local/share/bash-completion/completions/cnnlib
In zsh: cnnlib completion zsh > ~/.zfunc/_cnnlib, where ~/.zfunc is in fpath before compinit is called.
In fish: cnnlib completion fish > ~/.config/fish/completions/cnnlib.fish
For the running bash: eval "$(cnnlib completion bash)"
"""
_NAMES_A_PATH = re.compile(r"\b(FILE|DIR|FOLDER|RUN)\b")


def add_to(commands):
    completion = commands.add_parser(
        "completion",
        help="a script for the shell's completion",
        description="Print a script with which a shell completes cnnlib's commands, options and choices.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    completion.add_argument("shell", choices=SHELLS)


def run(options):
    shtab = required("shtab", "cnnlib completion", "shtab", "completion")
    parser = build_parser()
    for action in _actions(parser):
        if isinstance(action.metavar, str) and _NAMES_A_PATH.search(action.metavar):
            action.complete = shtab.FILE
    print(shtab.complete(parser, shell=options.shell))
    return 0


def _actions(parser):
    """The options and arguments of a parser and of its subcommands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                yield from _actions(subparser)
        else:
            yield action
