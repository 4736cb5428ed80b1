#!/usr/bin/env bash
# A Windows Python under wine, with cnnlib's wheel and what its tests need.
#   cmake/cross/wine.sh FOLDER PYTHON VERSION   makes FOLDER/python, which runs it; FOLDER is that of wheel.sh
set -euo pipefail
folder=$(realpath -m "$1") python=$2 version=$3
here=$(realpath "$(dirname "$0")")
headers=$folder/python-$version packages=$folder/packages-$version wheels=("$folder"/cnnlib-*-"cp${version//./}"-win_amd64.whl)

if ! command -v wine >/dev/null; then
  echo "cnnlib: test-windows needs wine: apt-get install wine wine64" >&2
  exit 1
fi
if [ ! -e "${wheels[0]}" ]; then
  echo "cnnlib: no wheel for Python $version in $folder: make windows-wheel WINDOWS_PYTHONS=$version" >&2
  exit 1
fi
[ -e "$headers/python.exe" ] || "$python" "$here/windows_python.py" "$version" "$headers"
if [ ! -e "$packages/.installed" ]; then
  rm -rf "$packages"
  # Its NumPy is older than that of packaging/constraints.txt.
  env -u PIP_CONSTRAINT "$python" -m pip install --quiet --only-binary :all: --platform win_amd64 --python-version "$version" \
    --target "$packages" --group wine
  touch "$packages/.installed"
fi
# Nothing of the caller's own wine, and no windows: wine's complaints would stand between the tests' lines.
cat >"$folder/python" <<END
#!/bin/sh
export WINEPREFIX='$folder/prefix' WINEDEBUG=-all XDG_RUNTIME_DIR="\${XDG_RUNTIME_DIR:-/tmp}"
export PYTHONPATH='Z:${packages//\//\\}' WINEPATH='Z:${headers//\//\\}'
exec wine '$headers/python.exe' "\$@"
END
chmod +x "$folder/python"
"$folder/python" -m pip install --quiet --no-index --no-deps --force-reinstall --no-warn-script-location \
  "Z:${wheels[0]//\//\\}"
