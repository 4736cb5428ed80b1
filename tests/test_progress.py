import builtins
import sys

import pytest
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
    assert epochs[-1] == f"(Epoch 2 / 2) train acc: {train_acc:.4f}; val_acc: {val_acc:.4f}"
