"""README as a package index shows it: no link that leads nowhere, whether a home is known or not."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
if not (ROOT / "packaging").is_dir():
    pytest.skip("the tests lie elsewhere than in a checkout", allow_module_level=True)
sys.path.insert(0, str(ROOT / "packaging"))
import index_metadata  # noqa: E402
import sbom  # noqa: E402

HOME = "https://host.example/owner/cnnlib"
TARGET = re.compile(r"\]\(([^)\s]+)\)")
PROJECT = {"name": "cnnlib", "version": "1.2.3"}


def readme(monkeypatch, home):
    monkeypatch.setenv("CNNLIB_HOME_URL", home)
    monkeypatch.setattr(sbom, "write", lambda project: None)
    fields = index_metadata.dynamic_metadata({}, PROJECT)
    assert fields["readme"]["content-type"] == "text/markdown"
    return fields["readme"]["text"], fields["urls"]


def test_links_are_absolute_where_a_home_is_known(monkeypatch):
    text, urls = readme(monkeypatch, f"{HOME}/")
    targets = TARGET.findall(text)
    assert len(targets) > 20
    for target in targets:
        assert target.startswith((f"{HOME}/blob/v1.2.3/", f"{HOME}/raw/v1.2.3/")), target
        assert (ROOT / target.partition("/v1.2.3/")[2].partition("#")[0]).exists(), target
    assert f"({HOME}/raw/v1.2.3/docs/images/readme.png)" in text
    assert urls["Homepage"] == HOME
    assert all(url.startswith(HOME) for url in urls.values())


def test_there_are_no_links_without_a_home(monkeypatch):
    text, urls = readme(monkeypatch, "")
    assert TARGET.findall(text) == []
    assert "Install (`docs/install.md`)" in text
    assert urls == {}


def test_other_links_stay():
    text = "[a](https://a.example/b), [c](#c), ![d](d.png)"
    assert index_metadata.absolute(text, "", "1") == "[a](https://a.example/b), [c](#c), "
    assert index_metadata.absolute(text, "h", "1").endswith("![d](h/raw/v1/d.png)")
