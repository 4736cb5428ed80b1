"""Run a page: its Python blocks in order, in one namespace, each beside the output that the page shows.

    python docs/run_page.py docs/tutorial.md --pictures docs/images

A ``python`` block that is followed by a ``text`` block must print that. Numbers may differ a little, since
results differ in the last bits between instruction sets, and training makes more of that; all else is equal.
What the page saves as pictures is written to --pictures, or forgotten.
"""

import argparse
import contextlib
import io
import os
import re
import tempfile
from pathlib import Path

BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?![\w.]*\w)")
RELATIVE, ABSOLUTE = (
    0.15,
    0.02,
)  # of a number: a trained network's accuracies differ by a few images, losses more


class Differs(Exception):
    """A block printed something else than the page shows."""


def run_page(page, folder):
    """Run the blocks of the Markdown file `page` in `folder`; return how many outputs were compared."""
    namespace, compared, printed = {"__name__": "__page__"}, 0, ""
    with _chdir(folder):
        for kind, text in BLOCK.findall(Path(page).read_text(encoding="utf-8")):
            if kind == "python":
                output = io.StringIO()
                with contextlib.redirect_stdout(output):
                    exec(compile(text, str(page), "exec"), namespace)
                printed = output.getvalue()
            else:
                compare(text, printed)
                compared += 1
    return compared


def compare(shown, printed):
    """Raise `Differs` where `printed` is not what the page shows."""
    if NUMBER.sub("#", shown).split() != NUMBER.sub("#", printed).split():
        raise Differs(f"the page shows\n{shown}\nbut it printed\n{printed}")
    for one, other in zip(NUMBER.findall(shown), NUMBER.findall(printed)):
        a, b = float(one), float(other)
        if "." in one + other and "e" not in one + other:
            right = abs(a - b) <= ABSOLUTE + RELATIVE * abs(a)
        else:  # a count, or a rounding error, of which the size matters
            right = a == b or ("e" in one + other and a * b > 0 and 1e-3 < a / b < 1e3)
        if not right:
            raise Differs(f"the page shows {one}, but it printed {other}, in\n{printed}")


@contextlib.contextmanager
def _chdir(folder):
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--pictures", type=Path, help="where to leave what the page saves")
    arguments = parser.parse_args()
    import matplotlib

    matplotlib.use("Agg")
    if arguments.pictures:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
        run_page(arguments.page.resolve(), arguments.pictures)
    else:
        with tempfile.TemporaryDirectory() as folder:
            run_page(arguments.page.resolve(), folder)


if __name__ == "__main__":
    main()
