# Shared by the scripts that compile for another system (sourced). They set `system` (windows, macos or aarch64),
# `folder`, where files of that system are kept, `python`, and `here`, this folder.
# PYTHON has what the groups `build` and `cross` of pyproject.toml name. zig's clang++ is among it, which brings headers
# and libraries of Windows and macOS. cmake/aarch64/sysroot.sh puts those of 64-bit Arm's Linux below build/aarch64.
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
