#!/usr/bin/env bash
# Run Clang's front end over every unit of every instruction set for another system, up to LLVM's intermediate code.
#   cmake/cross/front_end.sh windows|macos FOLDER PYTHON VERSION
# This finds what g++ accepts and Clang refuses in half a minute, since nothing is optimised or linked. All units of a
# set are one translation unit here, so a name that two of them define differently is an error as well.
set -euo pipefail
system=$1 folder=$(realpath -m "$2") python=$(realpath -s "$3") version=$4
here=$(realpath "$(dirname "$0")")
mkdir -p "$folder"
. "$here/system.sh"
describe_python "$version"

build=$folder/front-end packages=$("$python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
defines+=(CMAKE_BUILD_TYPE=Release CMAKE_CXX_FLAGS_RELEASE="-O0 -emit-llvm -Xclang -disable-llvm-passes"
  CMAKE_UNITY_BUILD=ON CMAKE_UNITY_BUILD_BATCH_SIZE=0 CMAKE_DISABLE_PRECOMPILE_HEADERS=ON
  CNNLIB_ISAS=all CNNLIB_WERROR=ON CMAKE_PREFIX_PATH="$packages/cmeel.prefix"
  pybind11_DIR="$("$python" -m pybind11 --cmakedir)" CMAKE_MAKE_PROGRAM="$(dirname "$python")/ninja")
"$python" -m cmake -S "$here/../.." -B "$build" -G Ninja "${defines[@]/#/-D}" >"$folder/front-end.log" ||
  { cat "$folder/front-end.log"; exit 1; }
ninja=("$python" -m ninja -C "$build")
mapfile -t objects < <("${ninja[@]}" -t targets all | sed -n 's/: CXX_COMPILER.*//p')
[ ${#objects[@]} -gt 0 ] || { echo "front_end.sh: no units to compile for $system" >&2; exit 1; }
"${ninja[@]}" --quiet "${objects[@]}"
echo "$system: Clang's front end takes all ${#objects[@]} units"
