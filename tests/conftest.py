import gc
import itertools
import re
import signal
import zlib
from pathlib import Path
from sysconfig import get_config_var

import cnnlib
import numpy as np
import pytest
from cnnlib import _core

SUFFIX = get_config_var("EXT_SUFFIX")


def pytest_report_header(config):
    return (
        f"cnnlib {cnnlib.__version__} from {cnnlib.__path__[0]}, {_core.active_isa()} "
        f"of {_core.available_isas()}, {cnnlib.get_num_threads()} threads, numpy {np.__version__}"
    )


def pytest_configure():
    """Test one compiled module; tests of several threads have them all, whatever else the machine does."""
    modules = [path for folder in cnnlib.__path__ for path in Path(folder).glob(f"_core*{SUFFIX}")]
    if len(modules) > 1:
        raise pytest.UsageError(
            f"two compiled modules, of which one is out of date: {', '.join(map(str, modules))}"
        )
    _core.notice_missing_cores(False)
    # A shell starts what runs in its background with Ctrl-C ignored; some tests send it to themselves.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Modules and tests stay: looking for garbage in them took a fifth of their collection."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_ignore_collect(collection_path, config):
    """With ``-m``, import those files alone that can have such a test: others may need what is not installed.

    A file has the markers that its text names as ``mark.NAME``; a test in it has some of them, or none.
    """
    expression = config.option.markexpr
    if collection_path.suffix != ".py" or not re.fullmatch(r"(?!.*\w\()[\w\s()]+", expression or ""):
        return None
    names = set(re.findall(r"\w+", expression)) - {"and", "or", "not"}
    text = collection_path.read_text(encoding="utf-8")
    found = [name for name in names if f"mark.{name}" in text]
    code = compile(expression.strip(), "-m", "eval")
    for carried in itertools.product((False, True), repeat=len(found)):
        marks = {**dict.fromkeys(names, False), **dict(zip(found, carried))}
        if eval(code, {"__builtins__": {}}, marks):
            return None
    return True


def pytest_addoption(parser):
    parser.addoption(
        "--every-set",
        action="store_true",
        help="run all tests with each instruction set, not the widest alone",
    )


def pytest_collection_modifyitems(config, items):
    """The narrower instruction sets share the source of the widest: of its tests, each takes a third."""
    sets = _core.available_isas()
    if config.getoption("every_set") or len(sets) == 1:
        return

    def is_taken(item):
        if "isa" not in getattr(item, "fixturenames", ()) or "extension" in item.fixturenames:
            return True
        isa = item.callspec.params["isa"]
        return isa == sets[0] or zlib.crc32(item.nodeid.replace(isa, "").encode()) % 3 == sets.index(isa)

    config.hook.pytest_deselected(items=[item for item in items if not is_taken(item)])
    items[:] = [item for item in items if is_taken(item)]


@pytest.fixture
def rng(request):
    """Random numbers of the test function's own: the same in every run, on every instruction set."""
    return np.random.default_rng(list(request.node.originalname.encode()))


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request):
    return np.dtype(request.param)


@pytest.fixture(params=_core.available_isas())
def isa(request):
    """The test runs once with each instruction set that was compiled and that this processor has."""
    previous = _core.active_isa()
    _core.use_isa(request.param)
    yield request.param
    _core.use_isa(previous)


@pytest.fixture
def num_threads():
    """Call it to set the number of threads; the test's end restores it."""
    previous = cnnlib.get_num_threads()
    yield cnnlib.set_num_threads
    cnnlib.set_num_threads(previous)


@pytest.fixture(scope="module")
def without_pictures():
    """`cnnlib train` here ends without pictures, which take ten times as long as a small training."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cnnlib.cli.report.command.drawn", lambda *arguments: None)
        yield


@pytest.fixture
def thread_pool():
    """Call it to run loops on threads of our own (True) or on OpenMP's, as after the test."""
    yield _core.use_thread_pool
    _core.use_thread_pool(False)
