"""
The bill of materials of a wheel (CycloneDX), in it as ``.dist-info/sboms/cnnlib.cdx.json`` (PEP 770).

It names what is compiled into the module or lies in the package and comes from others, with the versions at
hand when the wheel is built. It holds neither time nor random number: two builds write the same bytes. What
a repaired wheel carries beside that, auditwheel adds with a bill of its own.
"""

import json
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILE = ROOT / "build" / "sbom" / "cnnlib.cdx.json"  # from where scikit-build-core takes it (pyproject.toml)
EIGEN, PYBIND11 = "cmeel-eigen", "pybind11"  # the packages that bring the headers


def write(project):
    """Write the bill of materials of [project] to FILE."""
    FILE.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(bill(project, built_with(EIGEN), built_with(PYBIND11)), indent=2)
    FILE.write_text(text + "\n", encoding="utf-8", newline="\n")


def built_with(package):
    """Return the version of a package among those that build the wheel; None where it is the system's."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def bill(project, eigen, pybind11):
    """
    Return the bill of materials as a dict.

    Parameters
    ----------
    project : dict
        The table [project] of pyproject.toml.
    eigen, pybind11 : str or None
        Versions of the packages that bring the headers.
    """
    own = _component(
        "library", project["name"], project["version"], project["license"], "pypi", project["name"]
    )
    parts = [
        _component("library", "Eigen", eigen, "MPL-2.0", "pypi", EIGEN, "https://gitlab.com/libeigen/eigen"),
        _component("library", "pybind11", pybind11, "BSD-3-Clause", "pypi", PYBIND11),
        {
            "type": "data",
            "bom-ref": "cnnlib/data/digits.npz",
            "name": "Optical Recognition of Handwritten Digits",
            "licenses": [{"expression": "CC-BY-4.0"}],
            "externalReferences": [{"type": "distribution", "url": "https://archive.ics.uci.edu/dataset/80"}],
        },
    ]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": own},
        "components": parts,
        "dependencies": [
            {"ref": own["bom-ref"], "dependsOn": [part["bom-ref"] for part in parts]},
            *({"ref": part["bom-ref"]} for part in parts),
        ],
    }


def _component(kind, name, number, licence, registry, package, source=None):
    at = "" if number is None else f"@{number}"
    found = {"type": kind, "bom-ref": f"pkg:{registry}/{package}{at}", "name": name}
    found |= {} if number is None else {"version": number}
    found |= {"licenses": [{"expression": licence}], "purl": f"pkg:{registry}/{package}{at}"}
    if source:
        found["externalReferences"] = [{"type": "vcs", "url": source}]
    return found
