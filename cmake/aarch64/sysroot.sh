#!/bin/sh
# sysroot.sh FOLDER PIP...: makes FOLDER, an arm64 Debian 12 of which the compiler takes headers and libraries, and
# FOLDER/python, which runs its Python under qemu-user with the packages of the tests. PIP... is a pip of the host.
set -eu
sysroot=$1
shift

need() {
  command -v "$1" >/dev/null || { echo "cnnlib: a build for aarch64 needs '$1': apt-get install $2" >&2; exit 1; }
}
need mmdebstrap mmdebstrap
need qemu-aarch64 qemu-user

rm -rf "$sysroot"
mkdir -p "$(dirname "$sysroot")"
mmdebstrap --quiet --architectures=arm64 --variant=extract \
  --include=libc6-dev,libstdc++-12-dev,libgomp1,libpython3-dev,python3-minimal bookworm "$sysroot"
sysroot=$(cd "$sysroot" && pwd)
# Python's pyconfig.h names the one of the architecture by its path from usr/include, where this compiler does not look.
for headers in "$sysroot"/usr/include/python3.*; do ln -s ../aarch64-linux-gnu "$headers/aarch64-linux-gnu"; done

# Python takes the folder of its library from PYTHONHOME, and sys.executable from its own name: the tests start
# processes with it. A processor without any extension finds instructions that not every Arm has.
python=$(ls "$sysroot"/usr/bin/python3.[0-9]*)
cat >"$sysroot/python" <<END
#!/bin/sh
PYTHONHOME='$sysroot/usr' exec qemu-aarch64 -cpu cortex-a53 -L '$sysroot' -0 "\$0" '$python' "\$@"
END
chmod +x "$sysroot/python"

"$@" install --quiet --disable-pip-version-check --group test --only-binary :all: \
  --python-version "${python##*python}" --platform manylinux_2_28_aarch64 --platform manylinux2014_aarch64 \
  --target "$("$sysroot/python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')"
