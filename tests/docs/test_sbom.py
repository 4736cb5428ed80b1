"""A wheel's bill of materials: what of others lies in it, the same bytes each time."""

import importlib.metadata
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
if not (ROOT / "packaging").is_dir():
    pytest.skip("the tests lie elsewhere than in a checkout", allow_module_level=True)
sys.path.insert(0, str(ROOT / "packaging"))
import sbom  # noqa: E402

PROJECT = {"name": "cnnlib", "version": "1.2.3", "license": "BSD-3-Clause AND MPL-2.0"}


@pytest.fixture
def bill(monkeypatch, tmp_path):
    """The bill that is written while Eigen's package is there and pybind11's is not."""
    monkeypatch.setattr(sbom, "FILE", tmp_path / "sbom" / "cnnlib.cdx.json")
    monkeypatch.setattr(sbom, "built_with", {"cmeel-eigen": "3.4.1", "pybind11": None}.get)
    written = set()
    for _ in range(2):
        sbom.write(PROJECT)
        written.add(sbom.FILE.read_bytes())
    assert len(written) == 1
    return json.loads(written.pop())


def test_it_names_what_is_of_others(bill):
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    own = bill["metadata"]["component"]
    assert (own["name"], own["version"], own["purl"]) == ("cnnlib", "1.2.3", "pkg:pypi/cnnlib@1.2.3")
    assert own["licenses"] == [{"expression": PROJECT["license"]}]
    parts = {part["name"]: part for part in bill["components"]}
    assert parts["Eigen"]["version"] == "3.4.1"
    assert parts["Eigen"]["purl"] == "pkg:pypi/cmeel-eigen@3.4.1"
    assert "version" not in parts["pybind11"]
    third_party = (ROOT / "licenses" / "THIRD_PARTY.md").read_text().lower()
    for part in parts.values():
        assert part["name"].lower() in third_party
        (licence,) = part["licenses"]
        assert licence["expression"].replace("CC-BY-4.0", "CC BY 4.0").lower() in third_party


def test_references_are_unique_and_resolved(bill):
    parts = [bill["metadata"]["component"], *bill["components"]]
    references = [part["bom-ref"] for part in parts]
    assert len(set(references)) == len(references)
    assert {entry["ref"] for entry in bill["dependencies"]} == set(references)
    assert set(bill["dependencies"][0]["dependsOn"]) == set(references[1:])


def test_a_package_that_is_not_there_has_no_version():
    assert sbom.built_with("no-such-package") is None
    assert sbom.built_with("numpy") == importlib.metadata.version("numpy")


def test_a_wheel_takes_it_from_where_it_is_written():
    """And builds to the same bytes everywhere: `make twice` compares two."""
    text = (ROOT / "pyproject.toml").read_text()
    assert f'"{sbom.FILE.relative_to(ROOT).as_posix()}" = "${{SKBUILD_METADATA_DIR}}/sboms/' in text
    assert "wheel.reproducible = true" in text
