#!/usr/bin/env bash
# A wheel for Windows, built on another system by zig's clang++, which brings Windows' headers and libraries.
#   cmake/cross/wheel.sh FOLDER PYTHON VERSION...   leaves wheels for these versions of Python in FOLDER
# PYTHON has what the groups `build` and `cross` of pyproject.toml name. Only what includes Python's headers is
# compiled again for each version.
set -euo pipefail
folder=$(realpath -m "$1") python=$(realpath -s "$2")  # the environment's, not what it links to
shift 2
here=$(realpath "$(dirname "$0")")
mkdir -p "$folder"

CNNLIB_ZIG=$("$python" -c 'import os, ziglang; print(os.path.join(os.path.dirname(ziglang.__file__), "zig"))')
export CNNLIB_ZIG CNNLIB_TARGET=x86_64-windows-gnu _PYTHON_HOST_PLATFORM=win_amd64

for version in "$@"; do
  short=${version//./} headers=$folder/python-$version
  [ -e "$headers/python.exe" ] || "$python" "$here/windows_python.py" "$version" "$headers"
  options=()
  for define in "CMAKE_TOOLCHAIN_FILE=$here/windows.cmake" CMAKE_DISABLE_PRECOMPILE_HEADERS=ON \
    "CNNLIB_WERROR=${WERROR:-OFF}" "Python_INCLUDE_DIR=$headers/include" \
    "Python_LIBRARY=$headers/libs/python$short.lib" "PYTHON_MODULE_EXTENSION=.cp$short-win_amd64.pyd" \
    PYTHON_MODULE_DEBUG_POSTFIX=; do
    options+=("--config-settings=cmake.define.$define")
  done
  rm -rf "$folder/built"
  "$python" -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir "$folder/built" \
    --config-settings=build-dir="$folder/core" --config-settings=cmake.python-hints=false \
    --config-settings=install.strip=false "${options[@]}" .
  # The name is that of the Python which built it.
  (cd "$folder/built" &&
    "$python" -m wheel tags --remove --python-tag "cp$short" --abi-tag "cp$short" ./*.whl >/dev/null)
  mv "$folder"/built/*.whl "$folder/"
done
rm -rf "$folder/built"
