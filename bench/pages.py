"""Join the files that --json has written into one, and write a summary page for each class of processors.

    python bench/pages.py zen5.json xeon.json --json bench/results.json.gz

A run replaces an earlier one of the same title, processor class and instruction set. The pages lie beside the
joined file: RESULTS-zen5.md, with the instruction set in the name where it is not avx512.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from support import page, results


def main():
    """Run the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", metavar="FILE", help="runs to add; without any, only the pages")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="the joined file")
    options = parser.parse_args()
    runs = {}
    for file in (*([options.json] if options.json.exists() else []), *options.files):
        runs |= {(run["title"], *_class(run)): run for run in results.read(file)}
    results.write(options.json, runs.values())
    for kind in dict.fromkeys(map(_class, runs.values())):
        path = options.json.with_name(_file_name(*kind))
        path.write_text(page.text([run for run in runs.values() if _class(run) == kind]), encoding="utf-8")
        print(path)


def _class(run):
    return run["machine"]["class"], run["machine"]["isa"]


def _file_name(processor, isa):
    suffix = "" if isa == "avx512" else f"-{isa}"
    return f"RESULTS-{re.sub('[^a-z0-9]+', '', processor.lower())}{suffix}.md"


if __name__ == "__main__":
    main()
