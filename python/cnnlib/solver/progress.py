"""Progress of a training run: a tqdm bar where one can be drawn, plain lines elsewhere."""

import sys
import warnings

__all__ = ["Progress"]


class Progress:
    """Shows a run's iterations and messages; use it as a context manager.

    A bar needs tqdm and a terminal or notebook; without either, every `print_every`-th iteration gets a
    line. The bar is drawn on the standard error, messages go to the standard output.

    Parameters
    ----------
    total, done : int
        Iterations of the whole run, and those that are behind it already.
    print_every : int
        Iterations between two lines, or two updates of the loss beside the bar.
    verbose : bool
        False: show nothing at all.
    """

    def __init__(self, total, done=0, print_every=10, verbose=True):
        self.total = total
        self.print_every = print_every
        self.verbose = verbose
        self._bar = None
        tqdm = _tqdm() if verbose else None
        if tqdm is not None:
            self._bar = tqdm(total=total, initial=done, unit="it", dynamic_ncols=True)

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
        elif due:
            print(f"(Iteration {number} / {self.total}) loss: {loss:.6f}", flush=True)

    def message(self, text):
        """Show a line of text, above the bar if there is one."""
        if not self.verbose:
            return
        if self._bar is not None:
            self._bar.write(text)
        else:
            print(text, flush=True)


def _tqdm():
    """tqdm's class that suits the surroundings, or None where a bar cannot be drawn."""
    notebook = _in_notebook()
    if not (notebook or (sys.stderr is not None and sys.stderr.isatty())):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # in a notebook without ipywidgets tqdm warns, and draws with text
            if notebook:
                from tqdm.auto import tqdm
            else:
                from tqdm import tqdm
    except ImportError:
        return None
    return tqdm


def _in_notebook():
    """Whether this process is the kernel of a notebook (without importing IPython to find out)."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None
    return shell is not None and "IPKernelApp" in getattr(shell, "config", {})
