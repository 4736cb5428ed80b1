"""``cnnlib completion``: what a shell makes of it."""

import shutil
import subprocess
import sys

import pytest
from cnnlib.__main__ import main
from cnnlib.cli.completion import SHELLS
from cnnlib.models.spec.reading import NAMED_SPECS
from helpers import refused

# What bash calls when the Tab key is pressed, with the words of the line.
PRESS_TAB = """
source "$1"; shift
function=$(complete -p cnnlib | sed 's/.*-F \\([^ ]*\\).*/\\1/')
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
"$function"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    pytest.importorskip("shtab", reason="it writes the scripts")
    path = tmp_path_factory.mktemp("completion") / "cnnlib.bash"
    command = [sys.executable, "-m", "cnnlib", "completion", "bash"]
    path.write_text(subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout)
    return path


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
class TestBash:
    def completions(self, script, *words, cwd=None):
        command = ["bash", "--norc", "-c", PRESS_TAB, "bash", str(script), *words]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300, cwd=cwd)
        assert done.stderr == ""
        return set(done.stdout.split("\n")) - {""}

    def test_commands(self, script):
        assert self.completions(script, "cnnlib", "tr") == {"train"}
        assert self.completions(script, "cnnlib", "") >= {"train", "eval", "predict", "bench", "info"}

    def test_options(self, script):
        assert self.completions(script, "cnnlib", "train", "--early") == {"--early-stopping"}
        assert self.completions(script, "cnnlib", "eval", "--early") == set()

    def test_choices(self, script):
        assert self.completions(script, "cnnlib", "train", "--model", "res") == {"resnet8", "resnet20"}
        assert self.completions(script, "cnnlib", "train", "--model", "") >= set(NAMED_SPECS)
        assert self.completions(script, "cnnlib", "eval", "--split", "t") == {"train", "test"}

    def test_files(self, script, tmp_path):
        (tmp_path / "settings.toml").touch()
        (tmp_path / "runs").mkdir()
        assert self.completions(script, "cnnlib", "train", "--config", "se", cwd=tmp_path) == {
            "settings.toml"
        }
        for words in (["train", "--out"], ["train", "--resume"], ["eval"], ["predict"]):
            assert self.completions(script, "cnnlib", *words, "ru", cwd=tmp_path) == {"runs"}


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_has_a_script(shell, capsys):
    pytest.importorskip("shtab", reason="it writes the scripts")
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert all(
        word in script for word in ("early", "update", "resnet20", "--split" if shell != "fish" else "split")
    )


def test_without_shtab_the_error_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["completion", "bash"]) == 2
    assert capsys.readouterr().err == (
        "cnnlib: error: cnnlib completion needs shtab: pip install cnnlib[completion]\n"
    )


def test_another_shell_is_refused(capsys):
    assert "invalid choice: 'cmd'" in refused(capsys, "completion", "cmd")
