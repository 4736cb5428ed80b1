#!/bin/sh
# sysroot.sh FOLDER PIP...: makes FOLDER, in which an arm64 Python with its headers and the packages of the tests lie,
# and FOLDER/python, which runs that Python under qemu-user. PIP... is the command of a pip of the host.
#
# The packages come from the host's Debian sources, by an apt with a state of its own: nothing of the host's is
# touched, and nobody needs to be root.
set -eu
sysroot=$1
shift

need() {
  command -v "$1" >/dev/null || { echo "cnnlib: test-aarch64 needs '$1': apt-get install $2" >&2; exit 1; }
}
need apt-get apt
need dpkg-deb dpkg
need qemu-aarch64 qemu-user

rm -rf "$sysroot"
mkdir -p "$sysroot/usr/lib"
sysroot=$(cd "$sysroot" && pwd)
state=$sysroot/apt
mkdir -p "$state/lists/partial" "$state/archives/partial"
: >"$state/status"
cat >"$state/apt.conf" <<END
APT::Architecture "arm64";
APT::Architectures { "arm64"; };
APT::Sandbox::User "";
Dir::State "$state";
Dir::State::lists "$state/lists";
Dir::State::status "$state/status";
Dir::Cache "$state";
Dir::Cache::archives "$state/archives";
Debug::NoLocking "true";
END
export APT_CONFIG="$state/apt.conf"
apt-get update -q
apt-get install -y -q --no-install-recommends --download-only libpython3-dev python3-minimal libgomp1 libstdc++6

ln -s usr/lib "$sysroot/lib" # as Debian's base-files has it; packages name both
for package in "$state"/archives/*.deb; do dpkg-deb -x "$package" "$sysroot"; done
rm -rf "$state"
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

"$@" install --quiet --disable-pip-version-check --group test pybind11 cmeel-eigen --only-binary :all: \
  --python-version "${python##*python}" --platform manylinux_2_28_aarch64 --platform manylinux2014_aarch64 \
  --target "$("$sysroot/python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')"
