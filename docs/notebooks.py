"""The notebooks of examples/: run them anew, and make pages of them.

python docs/notebooks.py             # all; needs nbclient and ipykernel (`make notebooks`)
python docs/notebooks.py digits      # one
"""

import base64
import json
import sys
import tempfile
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def notebooks():
    """The notebooks' paths, by name."""
    return {path.stem: path for path in sorted(EXAMPLES.glob("*.ipynb"))}


def cells(path):
    """Of each cell in order: its type ('markdown' or 'code'), its text, and its outputs."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        yield cell["cell_type"], "".join(cell["source"]), cell.get("outputs", [])


def printed(outputs):
    """What a cell has printed."""
    return "".join("".join(output["text"]) for output in outputs if output["output_type"] == "stream")


def write_pages(folder):
    """Write a page `folder/<name>.md` with its pictures for each notebook, as it was run last."""
    folder.mkdir(exist_ok=True)
    for name, path in notebooks().items():
        parts, pictures = [], 0
        for kind, text, outputs in cells(path):
            parts.append(text if kind == "markdown" else f"```python\n{text}\n```")
            if printed(outputs):
                parts.append(f"```text\n{printed(outputs).rstrip()}\n```")
            for output in outputs:
                if "image/png" in output.get("data", {}):
                    pictures += 1
                    picture = folder / f"{name}-{pictures}.png"
                    picture.write_bytes(base64.b64decode("".join(output["data"]["image/png"])))
                    parts.append(f"![What the cell above draws.]({picture.name})")
        parts.append(f"This page is a notebook: {{download}}`{path.name} <../../examples/{path.name}>`.")
        page = folder / f"{name}.md"
        content = "\n\n".join(parts) + "\n"
        if not page.exists() or page.read_text(encoding="utf-8") != content:
            page.write_text(content, encoding="utf-8")


def run(path):
    """Run a notebook in a folder of its own, and write the outputs into it."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(notebook, timeout=600, resources={"metadata": {"path": folder}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when it ran, which differs every time
    nbformat.write(notebook, path)


def main():
    known = notebooks()
    for name in sys.argv[1:] or known:
        run(known[name])
        print(name)


if __name__ == "__main__":
    main()
