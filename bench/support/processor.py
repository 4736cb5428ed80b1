"""Which class of processors this one belongs to: figures are kept by it."""

from __future__ import annotations

import contextlib

# By vendor, family and the models of a range: the numbers that the cpuid instruction gives.
_CLASSES = (
    ("AuthenticAMD", 23, range(0x30), "Zen"),
    ("AuthenticAMD", 23, range(0x30, 0x100), "Zen 2"),
    ("AuthenticAMD", 25, range(0x10, 0x20), "Zen 4"),
    ("AuthenticAMD", 25, range(0x60, 0x80), "Zen 4"),
    ("AuthenticAMD", 25, range(0xA0, 0xB0), "Zen 4"),
    ("AuthenticAMD", 25, range(0x60), "Zen 3"),
    ("AuthenticAMD", 26, range(0x100), "Zen 5"),
    ("GenuineIntel", 6, (0x3C, 0x3F, 0x45, 0x46), "Haswell"),
    ("GenuineIntel", 6, (0x3D, 0x47, 0x4F, 0x56), "Broadwell"),
    ("GenuineIntel", 6, (0x55,), "Skylake or Cascade Lake server"),
    ("GenuineIntel", 6, (0x4E, 0x5E, 0x8E, 0x9E, 0xA5, 0xA6), "Skylake"),
    ("GenuineIntel", 6, (0x6A, 0x6C, 0x7D, 0x7E), "Ice Lake"),
    ("GenuineIntel", 6, (0x8F,), "Sapphire Rapids"),
    ("GenuineIntel", 6, (0xCF,), "Emerald Rapids"),
    ("GenuineIntel", 6, (0xAD, 0xAE), "Granite Rapids"),
    ("GenuineIntel", 6, (0x97, 0x9A, 0xB7, 0xBA, 0xBF), "Alder or Raptor Lake"),
)


def name():
    """The class by its usual name, else vendor, family and model; 'unknown' where the system does not say."""
    found = {}
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as info:
        for line in info:
            key, _, value = line.partition(":")
            found.setdefault(key.strip(), value.strip())
    vendor, numbers = found.get("vendor_id"), (found.get("cpu family", ""), found.get("model", ""))
    if not vendor or not all(text.isdigit() for text in numbers):
        return "unknown"
    family, model = map(int, numbers)
    for known_vendor, known_family, models, text in _CLASSES:
        if (vendor, family) == (known_vendor, known_family) and model in models:
            return text
    if "amx_tile" in found.get("flags", "").split():  # a virtual machine that hides the model
        return "Xeon with AMX"
    return f"{vendor} family {family} model {model}"
