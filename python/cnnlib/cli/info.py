"""``cnnlib info``: what is installed and what it runs with."""

from importlib.metadata import PackageNotFoundError, version

import cnnlib

_OPTIONAL = ("matplotlib", "tqdm", "pooch", "Pillow")


def add_to(commands):
    """Add the command."""
    info = commands.add_parser("info", help="versions, instruction set, threads, optional packages")
    info.set_defaults(execute=run)


def run(options):
    """Run the subcommand; returns the exit status."""
    cnnlib.show_config()
    found = []
    for package in _OPTIONAL:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} not installed")
    print(f"optional packages: {', '.join(found)}")
    return 0
