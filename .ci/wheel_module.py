"""What the compiled module of a wheel for another system needs there, read from the file by lief."""

import re

import lief

lief.logging.disable()  # it complains of parts of a file that are not asked for

# What every system of the kind has. The interpreter is found without being named on Linux and macOS; OpenMP's
# library may lie in the wheel, where auditwheel has renamed it.
LIBRARIES = {
    "linux": r"lib(stdc\+\+|gcc_s|m|c|pthread|gomp(-\w+)?)\.so[\d.]*|ld-linux-\S+",
    "macosx": r"/usr/lib/(libSystem\.B|libc\+\+\.1)\.dylib",
    "win": r"python3\d+\.dll|KERNEL32\.dll|ADVAPI32\.dll|ntdll\.dll|api-ms-win-\S+\.dll",
}
ARCHITECTURES = {
    "x86_64": lief.Header.ARCHITECTURES.X86_64,
    "amd64": lief.Header.ARCHITECTURES.X86_64,
    "arm64": lief.Header.ARCHITECTURES.ARM64,
    "aarch64": lief.Header.ARCHITECTURES.ARM64,
}


def check_module(content, platform):
    """Architecture, libraries and names; `platform` is the wheel's tag. A line that says what was found."""
    binary = lief.parse(list(content))
    architecture = next(value for key, value in ARCHITECTURES.items() if platform.endswith(key))
    assert binary.abstract.header.architecture == architecture, f"for {binary.abstract.header.architecture}"
    system = re.match(r"(?:many|musl)?(linux|macosx|win)", platform)[1]
    libraries = [library if isinstance(library, str) else library.name for library in binary.libraries]
    if system == "macosx":
        libraries = check_macos(binary, platform, libraries)
    foreign = [name for name in libraries if not re.fullmatch(LIBRARIES[system], name)]
    assert libraries, "no library: the module cannot have been linked"
    assert not foreign, f"needs {foreign}, which a user may not have"
    names = {function.name.lstrip("_") for function in binary.exported_functions}
    assert "PyInit__core" in names, "Python finds no way into it"
    own = [name for name in names if re.search(r"cnnlib|Eigen|pybind11", name)]
    # Windows keeps the names of each library apart.
    assert system == "win" or not own, f"symbols that other modules could take for theirs: {own[:5]}"
    return f"{architecture.name} for {system}, needs {', '.join(sorted(libraries))}"


def check_macos(binary, platform, libraries):
    """Its libraries without itself; it must be signed, and find Python's names in the process."""
    least = tuple(map(int, re.search(r"_(\d+)_(\d+)_", platform).groups()))
    assert tuple(binary.build_version.minos[:2]) == least, f"for macOS {binary.build_version.minos}"
    assert binary.has_code_signature, "not signed, which macOS on Arm requires"
    process = {b.symbol.name for b in binary.bindings if b.library_ordinal < 0 and b.has_symbol}
    python = [name for name in process if name.startswith(("_Py", "__Py"))]
    # Names that nothing defines link all the same here, and would fail at the import.
    assert python, "asks the process for no name of Python's"
    assert len(process) == len(python), f"undefined: {sorted(process.difference(python))[:5]}"
    return [name for name in libraries if "/" in name]
