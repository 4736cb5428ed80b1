"""Stands in for ssh: ``other_host.py NAME COMMAND ...`` runs a command in the network namespace NAME.

The host has the same name there, by which MPI tells the machines apart.
"""

import os
import sys


def main():
    """Become the command."""
    name, *words = [word for word in sys.argv[1:] if not word.startswith("-") or word.startswith("--")]
    shell = f"hostname {name}; {' '.join(words)}"
    os.execvp("ip", ["ip", "netns", "exec", name, "unshare", "--uts", "sh", "-c", shell])


if __name__ == "__main__":
    main()
