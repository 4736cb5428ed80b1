import builtins
import os
import subprocess
import sys
import time

import pytest
from cnnlib._system.text import folded
from cnnlib.solver.progress import Progress
from training import LinearModel, digits_like, quiet_solver


def report(verbose=True):
    with Progress(total=7, done=2, print_every=3, verbose=verbose) as progress:
        for number in range(3, 8):
            progress.iteration(number, number / 8)
        progress.message("end of epoch")


def test_plain_lines_where_there_is_no_terminal(capsys):
    report()
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "(Iteration 4 / 7) loss: 0.500000",
        "(Iteration 7 / 7) loss: 0.875000",
        "end of epoch",
    ]
    assert err == ""


def test_silent(capsys):
    report(verbose=False)
    quiet_solver(LinearModel(36, 4), digits_like()).train()
    assert capsys.readouterr() == ("", "")


def test_a_bar_on_a_terminal(capsys, monkeypatch):
    pytest.importorskip("tqdm", reason="the bar is tqdm's")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    report()
    out, err = capsys.readouterr()
    assert out.splitlines() == ["end of epoch"]
    assert "7/7" in err
    assert "loss 0.8750" in err


def test_plain_lines_on_a_terminal_without_tqdm(capsys, monkeypatch):
    importer = builtins.__import__

    def without_tqdm(name, *args, **kwargs):
        if name.startswith("tqdm"):
            raise ImportError(name)
        return importer(name, *args, **kwargs)

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(builtins, "__import__", without_tqdm)
    report()
    assert capsys.readouterr().out.startswith("(Iteration 4 / 7)")


def test_the_solver_reports_epochs(capsys):
    solver = quiet_solver(LinearModel(36, 4), digits_like(), print_every=5)
    solver.verbose = True
    solver.train()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" loss")[0] for line in lines if "Iteration" in line] == [
        "(Iteration 1 / 8)",
        "(Iteration 6 / 8)",
        "(Iteration 8 / 8)",
    ]
    epochs = [line for line in lines if "Epoch" in line]
    assert len(epochs) == 3
    train_acc, val_acc = solver.train_acc_history[-1], solver.val_acc_history[-1]
    val_loss = solver.val_loss_history[-1]
    assert epochs[-1] == (
        f"(Epoch 2 / 2) train_accuracy: {train_acc:.4f}; val_accuracy: {val_acc:.4f}; "
        f"val_loss: {val_loss:.4f}"
    )


@pytest.mark.parametrize(("silence", "told"), [(25.0, [1]), (0.0, [1, 2, 3])])
def test_iterations_between_the_lines_are_told_after_a_silence(silence, told, capsys, monkeypatch):
    assert Progress.longest_silence == 25
    monkeypatch.setattr(Progress, "longest_silence", silence)
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    with Progress(total=1000, print_every=500) as progress:
        for number in (1, 2, 3):
            progress.iteration(number, number / 8)
    lines = [f"(Iteration {number} / 1000) loss: {number / 8:.6f}" for number in told]
    assert capsys.readouterr().out.splitlines() == lines


def on_a_narrow_terminal(*command):
    """What a program shows on a terminal of 50 columns."""
    import pty

    terminal, end = pty.openpty()
    environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "LINES")}
    process = subprocess.Popen([sys.executable, *command], stdout=end, stderr=end, env=environment)
    os.close(end)
    shown = b""
    try:
        while part := os.read(terminal, 4096):
            shown += part
    except OSError:  # the other end is closed
        pass
    os.close(terminal)
    assert process.wait(timeout=300) == 0, shown
    return shown.decode()


NARROW = """
import fcntl, struct, sys, termios
fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 50, 0, 0))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
@pytest.mark.parametrize("tqdm", [True, False])
def test_fifty_columns(tqdm):
    """On a narrow terminal no line, of the bar or of an epoch, is longer than it is wide."""
    if tqdm:
        pytest.importorskip("tqdm", reason="the bar is tqdm's")
    code = f"""{NARROW}
if not {tqdm}:
    sys.modules["tqdm"] = None
from cnnlib.solver.progress import Progress
with Progress(total=123456, done=123000) as progress:
    for number in range(123001, 123201):
        progress.iteration(number, 2.302585)
    progress.message("(Epoch 100 / 300) train_accuracy: 0.1234; val_accuracy: 0.1234; val_loss: 2.3026")
"""
    shown = on_a_narrow_terminal("-c", code)
    lines = shown.replace("\r", "\n").split("\n")
    assert max(map(len, lines)) <= 50, lines
    assert any("loss 2.3026" in line if tqdm else "loss: 2.302585" in line for line in lines)
    assert "(Epoch 100 / 300) train_accuracy: 0.1234" in shown
    assert "    val_loss: 2.3026" in lines or "    val_accuracy: 0.1234; val_loss: 2.3026" in lines


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_a_whole_run_on_fifty_columns(tmp_path):
    out = tmp_path / "run"
    small = ["--num-epochs", "1", "--num-filters", "4", "--hidden-dim", "16", "--threads", "1"]
    command = ["train", *small, "--out", str(out)]
    # Without matplotlib, whose pictures take longer; so there is a line about them to fold as well.
    code = f"{NARROW}\nsys.modules['matplotlib'] = None"
    code += f"\nfrom cnnlib.__main__ import main\nsys.exit(main({command}))"
    shown = on_a_narrow_terminal("-c", code)
    lines = [line for line in shown.replace("\r", "\n").split("\n") if str(out) not in line]  # long by itself
    assert max(map(len, lines)) <= 50, lines
    said = " ".join(" ".join(lines).split())
    assert "1263 training, 179 validation, 355 test images of 1x8x8 in 10 classes" in said
    assert "test_accuracy: " in said


def test_lines_are_left_alone_where_there_is_no_terminal(capsys):
    text = "a; " * 100
    assert folded(text) == text


def test_words_and_lines_that_are_longer_than_the_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stdout", type("Terminal", (), {"isatty": lambda self: True})())
    monkeypatch.setenv("COLUMNS", "20")
    assert folded("one two three four five; six; seven eight nine ten eleven") == (
        "one two three four\n    five\n    six\n    seven eight nine\n    ten eleven"
    )
    word = "x" * 30
    assert folded(f"a {word} b") == f"a\n    {word}\n    b"
