"""
The line of a problem, and back.

    conv dx f64 avx512 n2c64h128f8k1 t5 algorithm=pixel-lanes

A line has words, of which the first names the layer (``conv``: `cnnlib.conv_forward` and `conv_backward`; a
loss by its function). The others come in any order, each known by its form:

- ``out``, ``dx``, ``dw``, ... : the results in question; without any, all of them. ``packed`` is a
  convolution's ``out`` with the weights of `cnnlib.prepare_conv`.
- ``f32``, ``f64``: the dtype; without one, f32.
- ``avx512``, ``avx2``, ``base``: the instruction set; without one, the widest.
- ``t5``, ``t2,5,64``: numbers of threads; without one, two.
- ``n2c64h128``: sizes, a letter and a number each, or one for each axis as in ``k3x5``. The letters are those
  of `LETTERS`; a layer's are in `layers.py`.
- ``key=value``: the rest: ``algorithm=winograd``, ``mode=test``, ``seed=3``, ``layout=reversed``,
  ``engine=pool``. Values are numbers, pairs such as ``2x1``, or words.

What follows a ``#`` is a comment.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

LETTERS = {
    "n": "images, or samples",
    "c": "channels, or values of a sample",
    "d": "planes of a volume",
    "h": "rows; heads of queries in attention",
    "w": "columns; as many as rows where it is left out",
    "f": "filters, or results of a sample",
    "k": "the window; the result's size in adaptive pools, the scale in upsample",
    "s": "stride",
    "p": "padding: one number, one for each axis, or first and last for each axis",
    "r": "rate of dilation",
    "o": "padding of a transposed convolution's result",
    "g": "groups; heads of keys in attention",
    "l": "queries",
    "m": "keys",
}
DTYPES = {"f32": "float32", "f64": "float64"}
ISAS = ("avx512", "avx2", "base")
RESULTS = ("out", "packed", "dx", "dw", "db", "dgamma", "dbeta", "dq", "dk", "dv")
_SIZE = re.compile(r"([a-z])(\d+(?:x\d+)*)")
_NUMBER = re.compile(r"[-+]?\d+")
_PAIR = re.compile(r"\d+(?:x\d+)+")


@dataclass(frozen=True)
class Problem:
    """
    What a line says.

    Attributes
    ----------
    layer : str
    sizes : dict of str to tuple of int
        By the letters of `LETTERS`.
    results : tuple of str
        Of `RESULTS`; empty where all are meant.
    dtype : str
        'float32' or 'float64'.
    isa : str or None
    threads : tuple of int
    options : dict
        What stands as ``key=value``: int, float, tuple of int or str.
    """

    layer: str
    sizes: dict[str, tuple[int, ...]]
    results: tuple[str, ...] = ()
    dtype: str = "float32"
    isa: str | None = None
    threads: tuple[int, ...] = ()
    options: dict[str, object] = field(default_factory=dict)

    def __str__(self):
        short = {name: word for word, name in DTYPES.items()}
        words = [self.layer, *self.results, short[self.dtype], *([self.isa] if self.isa else [])]
        words.append("".join(f"{letter}{_times(sizes)}" for letter, sizes in self.sizes.items()))
        if self.threads:
            words.append("t" + ",".join(map(str, self.threads)))
        return " ".join([*words, *(f"{key}={_text(value)}" for key, value in self.options.items())])


def parse(line):
    """
    Return the problem that a line says.

    Raises
    ------
    ValueError
        For a word that has none of the forms, or a line without sizes, or with some twice.
    """
    layer, *words = line.partition("#")[0].split() or [""]
    found = {"layer": layer, "sizes": {}, "options": {}}
    for word in words:
        key, equals, value = word.partition("=")
        if equals:
            found["options"][key] = _value(value)
        elif word in DTYPES:
            found["dtype"] = DTYPES[word]
        elif word in ISAS:
            found["isa"] = word
        elif word in RESULTS:
            found["results"] = (*found.get("results", ()), word)
        elif re.fullmatch(r"t\d+(,\d+)*", word):
            found["threads"] = tuple(map(int, word[1:].split(",")))
        elif re.fullmatch(rf"({_SIZE.pattern})+", word):
            if found["sizes"]:
                raise ValueError(f"problem: {line!r} has sizes twice, of which {word!r} are the second")
            found["sizes"] = _sizes(word)
        else:
            raise ValueError(
                f"problem: {word!r} in {line!r} is no result ({', '.join(RESULTS)}), dtype (f32, f64), "
                f"instruction set ({', '.join(ISAS)}), sizes (n2c3h8), threads (t5) or key=value"
            )
    if not found["sizes"]:
        raise ValueError(f"problem: {line!r} has no sizes, such as n2c3h8")
    return Problem(**found)


def parse_file(path):
    """Return the problems of a file, one a line; empty lines and comments are left out."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [parse(line) for line in lines if line.partition("#")[0].strip()]


def _sizes(word):
    sizes = {}
    for letter, numbers in _SIZE.findall(word):
        if letter not in LETTERS or letter in sizes:
            what = "stands twice" if letter in sizes else f"is none of {', '.join(LETTERS)}"
            raise ValueError(f"problem: {letter!r} in {word!r} {what}")
        sizes[letter] = tuple(map(int, numbers.split("x")))
    return sizes


def _value(text):
    if _PAIR.fullmatch(text):
        return tuple(map(int, text.split("x")))
    if _NUMBER.fullmatch(text):
        return int(text)
    try:
        return float(text)
    except ValueError:
        return text


def _times(sizes):
    return "x".join(map(str, sizes))


def _text(value):
    return _times(value) if isinstance(value, tuple) else str(value)
