"""Metadata that depend on where the repository lies: the project's URLs, and the links of README.

A package index shows README without the repository around it, so links to its files have to be absolute.
At build time `CNNLIB_HOME_URL` may give the address of the repository, ``https://host/owner/cnnlib``. Files
are then linked below ``blob/vVERSION`` and pictures below ``raw/vVERSION``, as on GitHub. Without it there is
nothing to link to: a link becomes its text and the file's name, and pictures go.
"""

import os
import re
from pathlib import Path

import sbom

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)\s]+)\)")


def dynamic_metadata(settings, project):
    """The fields `readme` and `urls` of [project], for scikit-build-core."""
    sbom.write(project)  # here, since this runs before files are taken into the wheel or its metadata
    home = os.environ.get("CNNLIB_HOME_URL", "").rstrip("/")
    readme = absolute((ROOT / "README.md").read_text(encoding="utf-8"), home, project["version"])
    return {
        "readme": {"content-type": "text/markdown", "text": readme},
        "urls": urls(home, project["version"]),
    }


def dynamic_wheel(settings):
    """A wheel that is built from the source archive may know another home."""
    return {"readme": True, "urls": True}


def urls(home, version):
    if not home:
        return {}
    return {
        "Homepage": home,
        "Documentation": f"{home}/blob/v{version}/docs/index.md",
        "Changelog": f"{home}/blob/v{version}/CHANGELOG.md",
        "Issues": f"{home}/issues",
    }


def absolute(text, home, version):
    """`text` with every relative link made absolute, or taken out."""

    def replaced(match):
        picture, words, target = match.groups()
        if home:
            return f"{picture}[{words}]({home}/{'raw' if picture else 'blob'}/v{version}/{target})"
        return "" if picture else f"{words} (`{target}`)"

    return LINK.sub(replaced, text)
