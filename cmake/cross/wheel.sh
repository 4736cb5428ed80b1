#!/usr/bin/env bash
# Wheels for another system than the one that builds them.
#   cmake/cross/wheel.sh windows|macos|aarch64 FOLDER PYTHON VERSION...   leaves those for these Pythons in FOLDER
# Only what includes Python's headers is compiled again for each version.
set -euo pipefail
system=$1 folder=$(realpath -m "$2") python=$(realpath -s "$3")  # the environment's, not what it links to
shift 3
here=$(realpath "$(dirname "$0")")
mkdir -p "$folder"
. "$here/system.sh"
unset PIP_BUILD_CONSTRAINT  # pip refuses it without build isolation

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
