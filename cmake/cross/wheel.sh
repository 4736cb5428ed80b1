#!/usr/bin/env bash
# A wheel for another system, built by zig's clang++, which brings that system's headers and libraries.
#   cmake/cross/wheel.sh windows|macos FOLDER PYTHON VERSION...   leaves wheels for these versions of Python in FOLDER
# PYTHON has what the groups `build` and `cross` of pyproject.toml name. Only what includes Python's headers is
# compiled again for each version.
set -euo pipefail
system=$1 folder=$(realpath -m "$2") python=$3
shift 3
here=$(realpath "$(dirname "$0")")
mkdir -p "$folder"

CNNLIB_ZIG=$("$python" -c 'import os, ziglang; print(os.path.join(os.path.dirname(ziglang.__file__), "zig"))')
export CNNLIB_ZIG
case $system in
  windows)
    export CNNLIB_TARGET=x86_64-windows-gnu _PYTHON_HOST_PLATFORM=win_amd64
    ;;
  macos)
    export CNNLIB_TARGET=aarch64-macos.11.0 _PYTHON_HOST_PLATFORM=macosx_11_0_arm64
    ;;
  *)
    echo "cnnlib: wheel.sh builds for windows or macos, not '$system'" >&2
    exit 1
    ;;
esac

for version in "$@"; do
  headers=$folder/python-$version short=cp${version//./}
  defines=()
  if [ "$system" = windows ]; then
    [ -e "$headers/python.exe" ] || "$python" "$here/windows_python.py" "$version" "$headers"
    defines+=("Python_LIBRARY=$headers/libs/python${version//./}.lib" "PYTHON_MODULE_EXTENSION=.$short-win_amd64.pyd")
  else
    [ -e "$headers/include" ] || "$here/macos_headers.sh" "$version" "$headers"
    defines+=("PYTHON_MODULE_EXTENSION=.cpython-${version//./}-darwin.so")
  fi
  defines+=("Python_INCLUDE_DIR=$headers/include" "PYTHON_MODULE_DEBUG_POSTFIX=" "CNNLIB_WERROR=${WERROR:-OFF}"
    "CMAKE_TOOLCHAIN_FILE=$here/$system.cmake" "CMAKE_DISABLE_PRECOMPILE_HEADERS=ON")
  options=()
  for define in "${defines[@]}"; do options+=("--config-settings=cmake.define.$define"); done
  rm -rf "$folder/built"
  # A tag of another system's keeps pip from building it as its own: the module's name and the tag are set here.
  "$python" -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir "$folder/built" \
    --config-settings=build-dir="$folder/core" --config-settings=cmake.python-hints=false \
    --config-settings=install.strip=false "${options[@]}" .
  (cd "$folder/built" && "$python" -m wheel tags --remove --python-tag "$short" --abi-tag "$short" ./*.whl >/dev/null)
  mv "$folder"/built/*.whl "$folder/"
done
rm -rf "$folder/built"
