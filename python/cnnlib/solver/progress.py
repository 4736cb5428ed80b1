"""Progress of a training run: a tqdm bar where one can be drawn, plain lines elsewhere."""

import shutil
import sys
import time
import warnings

from cnnlib._system.text import folded

_NARROW = 72  # columns; below that a bar leaves out what matters least
_NARROW_BAR = "{percentage:3.0f}% {n_fmt}/{total_fmt} {remaining}{postfix}"


class Progress:
    """Shows a run's iterations and messages; use it as a context manager.

    A bar needs tqdm and a terminal or notebook; without either, every `print_every`-th iteration gets a line,
    and more do where half a minute would pass without one. The bar is drawn on the standard error, messages
    go to the standard output. `done` of the `total` iterations are behind the run already; `print_every` is
    also between two updates of the loss beside the bar. Without `verbose` nothing is shown.
    """

    longest_silence = 25.0  # seconds between two lines, unless one iteration takes longer

    def __init__(self, total, done=0, print_every=10, verbose=True):
        self.total, self.print_every, self.verbose = total, print_every, verbose
        self._bar, self._last_line = None, time.monotonic()
        tqdm = _tqdm() if verbose else None
        if tqdm is not None:
            narrow = shutil.get_terminal_size().columns < _NARROW
            form = {"bar_format": _NARROW_BAR} if narrow else {}
            self._bar = tqdm(total=total, initial=done, unit="it", dynamic_ncols=True, **form)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        if self._bar is not None:
            self._bar.close()

    def iteration(self, number, loss):
        """Report the loss of iteration `number` (1, 2, ...)."""
        if not self.verbose:
            return
        due = (number - 1) % self.print_every == 0 or number == self.total
        if self._bar is not None:
            if due:
                self._bar.set_postfix_str(f"loss {loss:.4f}", refresh=False)
            self._bar.update()
        elif due or time.monotonic() - self._last_line >= self.longest_silence:
            self._print(f"(Iteration {number} / {self.total}) loss: {loss:.6f}")

    def message(self, text):
        """Show a line of text, above the bar if there is one; on a narrow terminal it may become several."""
        if not self.verbose:
            return
        text = folded(text)
        if self._bar is not None:
            self._bar.write(text)
        else:
            self._print(text)

    def _print(self, text):
        print(text, flush=True)
        self._last_line = time.monotonic()


def _tqdm():
    """tqdm's class that suits the surroundings, or None where a bar cannot be drawn."""
    notebook = _in_notebook()
    if not (notebook or (sys.stderr is not None and sys.stderr.isatty())):
        return None
    try:
        with warnings.catch_warnings():
            # In a notebook without ipywidgets tqdm warns, and draws with text.
            warnings.simplefilter("ignore")
            if notebook:
                from tqdm.auto import tqdm
            else:
                from tqdm import tqdm
    except ImportError:
        return None
    return tqdm


def _in_notebook():
    """Return whether this process is the kernel of a notebook (without importing IPython to find out)."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    return shell is not None and "IPKernelApp" in getattr(shell, "config", {})
