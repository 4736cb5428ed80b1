"""The page on images of one's own, run as it stands but for the number of epochs."""

import re
import shlex
from pathlib import Path

import pytest
from cnnlib.cli.main import main

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "own-images.md"
pytest.importorskip("PIL.Image", reason="Pillow reads image files")


@pytest.mark.slow
@pytest.mark.skipif(not PAGE.exists(), reason="the tests lie elsewhere than in a checkout")
def test_what_it_shows_happens(tmp_path, monkeypatch, capsys, num_threads):
    section = PAGE.read_text(encoding="utf-8")
    write, train = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    (console,) = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
    shown = {}
    for line in console.splitlines():
        if line.startswith("$ "):
            command = shlex.split(line[2:], comments=True)
            shown[command[1]] = (command[1:], [])
        else:
            shown[next(reversed(shown))][1].append(line)

    monkeypatch.chdir(tmp_path)
    exec(write, {})
    command, output = shown["train"]
    assert main([*command, "--num-epochs", "1"]) == 0
    got = capsys.readouterr().out.splitlines()
    assert got[0].rpartition(";")[0] == output[0].rpartition(";")[0]  # the machine's threads follow
    assert got[1] == output[1]
    assert [line.split(":")[0] for line in got[-4:]] == [line.split(":")[0] for line in output[-4:]]
    command, output = shown["predict"]
    assert main(command) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.split(": ")[0] == output[0].split(": ")[0]

    exec(train.replace("num_epochs=10", "num_epochs=1"), {})
    capsys.readouterr()
    for command in re.findall(r"`cnnlib ((?:eval|predict) photos\.npz[^`]*)`", section):
        assert main(command.replace("FILE|DIR", "photos").split()) == 0
        assert capsys.readouterr().out.splitlines()
