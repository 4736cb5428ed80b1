#!/usr/bin/env bash
# Wheels for another system than the one that builds them.
#   cmake/cross/wheel.sh windows|macos|aarch64 FOLDER PYTHON VERSION...   leaves those for these Pythons in FOLDER
# PYTHON has what the groups `build` and `cross` of pyproject.toml name: zig's clang++ among it, which brings headers
# and libraries of Windows and macOS. Those of 64-bit Arm's Linux lie where cmake/aarch64/sysroot.sh has put them. Only
# what includes Python's headers is compiled again for each version.
set -euo pipefail
system=$1 folder=$(realpath -m "$2") python=$(realpath -s "$3")  # the environment's, not what it links to
shift 3
here=$(realpath "$(dirname "$0")")
mkdir -p "$folder"

CNNLIB_ZIG=$("$python" -c 'import os, ziglang; print(os.path.join(os.path.dirname(ziglang.__file__), "zig"))')
case $system in
  windows) _PYTHON_HOST_PLATFORM=win_amd64 ;;
  macos) _PYTHON_HOST_PLATFORM=macosx-11.0-arm64 ;;
  aarch64) _PYTHON_HOST_PLATFORM=linux-aarch64 ;;
esac
export CNNLIB_ZIG _PYTHON_HOST_PLATFORM

# Sets `defines`: where CMake finds that system's Python, and what modules are called there.
describe_python() {
  local version=$1 short=${1//./} unpacked=$folder/python-$1
  if [ "$system" = aarch64 ]; then
    defines=("CMAKE_TOOLCHAIN_FILE=$here/../aarch64/toolchain.cmake" "PYTHON_MODULE_EXTENSION=.cpython-$short-aarch64-linux-gnu.so"
      "Python_INCLUDE_DIR=$here/../../build/aarch64/sysroot/usr/include/python$version")
    return
  fi
  [ -e "$unpacked/python.exe" ] || "$python" "$here/windows_python.py" "$version" "$unpacked"
  defines=("CMAKE_TOOLCHAIN_FILE=$here/$system.cmake" "Python_INCLUDE_DIR=$unpacked/include")
  if [ "$system" = windows ]; then
    defines+=("PYTHON_MODULE_EXTENSION=.cp$short-win_amd64.pyd" "Python_LIBRARY=$unpacked/libs/python$short.lib")
  else
    defines+=("PYTHON_MODULE_EXTENSION=.cpython-$short-darwin.so")
    cp "$here/macos_pyconfig.h" "$unpacked/include/pyconfig.h" # the one header that differs between systems
  fi
}

for version in "$@"; do
  describe_python "$version"
  defines+=(CMAKE_DISABLE_PRECOMPILE_HEADERS=ON "CNNLIB_WERROR=${WERROR:-OFF}" PYTHON_MODULE_DEBUG_POSTFIX=)
  rm -rf "$folder/built"
  "$python" -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir "$folder/built" \
    --config-settings=build-dir="$folder/core" --config-settings=cmake.python-hints=false \
    --config-settings=install.strip=false "${defines[@]/#/--config-settings=cmake.define.}" .
  # The name is that of the Python which built it.
  (cd "$folder/built" &&
    "$python" -m wheel tags --remove --python-tag "cp${version//./}" --abi-tag "cp${version//./}" ./*.whl >/dev/null)
  if [ "$system" = aarch64 ]; then # auditwheel puts OpenMP's library inside, which it finds as the dynamic linker does
    PATH=$(dirname "$python"):$PATH LD_LIBRARY_PATH=$here/../../build/aarch64/sysroot/usr/lib/aarch64-linux-gnu \
      "$python" -m auditwheel repair --wheel-dir "$folder" "$folder"/built/*.whl
  else
    mv "$folder"/built/*.whl "$folder/"
  fi
done
rm -rf "$folder/built"
