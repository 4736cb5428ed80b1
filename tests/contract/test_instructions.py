"""
The compiled module has no instruction above the baseline outside of the code of its instruction set.

Functions are told apart by their names, which an installed module has lost. `make wheel` links a second
module of the same objects, build/recorder, which keeps them; a build by hand keeps them as well.
"""

import platform
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from cnnlib import _core

pytestmark = [
    pytest.mark.skipif(platform.machine() != "x86_64", reason="the processor is another one"),
    pytest.mark.skipif(shutil.which("objdump") is None, reason="objdump is not installed"),
]

RECORDER = Path(__file__).parents[2] / "build" / "recorder"
# A mangled name has each namespace behind its length; one that it had before is S_, S0_, ...
SETS = ("avx512amxbf16", "avx512bf16", "avx512amx", "avx512vnni", "avx2vnni", "avx512", "avx2", "base")
OF_SET = re.compile("|".join(rf"(?:(?:6cnnlib|S[0-9A-Z]*_){len(s)}|{len(s) + 6}Eigen_){s}" for s in SETS))
# What chooses among sets, and may have one in its template's arguments.
CHOOSES = re.compile(r"_ZZ*N[rVK]*6cnnlib12_GLOBAL__N_1")
# What a set's code may have beyond the baseline, by the letters of `kind`.
MAY = {
    "": "",
    "base": "",
    "avx2": "v",
    "avx2vnni": "vn",
    "avx512": "vz",
    "avx512vnni": "vzn",
    "avx512amx": "vzna",
    "avx512bf16": "vzb",
    "avx512amxbf16": "vzba",
}
AVX512_MASKS = re.compile(r"k(mov|and|or|xor|not|unpck|shift|test|add|ortest|xnor)\w*[bwdq]\b")
# Extensions that no set asks the processor for.
NEVER = re.compile(
    r"v?(perm[it]2b|permb|pmultishift|pcompress[bw]|pexpand[bw]|psh[lr]d|popcnt[bwdq]|pmadd52|gf2p8|"
    r"aes|pclmul|pconflict|plzcnt|exp2|rcp28|rsqrt28)|v\w+ph\b(?<!vcvtps2ph)(?<!vcvtph2ps)"
)
# x86-64-v2 has no BMI; `tzcnt` is what objdump calls the bsf that older processors run.
BMI = re.compile(
    r"(andn|bextr|bls[ir]|blsmsk|bzhi|lzcnt|mulx|pdep|pext|rorx|sarx|shlx|shrx|movbe|adcx|adox)[lq]?\b"
)


def kind(mnemonic, operands):
    """
    Return the kind of an instruction.

    '' is the baseline, 'v' VEX, 'z' EVEX, 'n' VNNI, 'b' AVX512_BF16, 'a' AMX, and '!' what no set asks the
    processor for.
    """
    if mnemonic.startswith(("tile", "tdp", "ldtilecfg", "sttilecfg")):
        return "a"
    if BMI.match(mnemonic) or NEVER.match(mnemonic):
        return "!"
    if mnemonic.startswith("vpdp"):
        return "n"
    if mnemonic.startswith(("vdpbf16", "vcvtne")):
        return "b"
    if AVX512_MASKS.match(mnemonic) or re.search(r"%zmm|%[xy]mm(1[6-9]|[23]\d)|%k[0-7]|\{", operands):
        return "z"
    return "v" if mnemonic.startswith("v") and mnemonic not in ("verr", "verw") else ""


def set_of(name):
    """Return the instruction set that a mangled name says; '' for everything else."""
    found = None if CHOOSES.match(name) else OF_SET.search(name)
    return next(s for s in SETS if found[0].endswith(s)) if found else ""


def sets_of(module):
    """
    Return the instruction set of each function of a module by its address; None for one without names.

    A local function whose name says no set, such as a clone of a template of the standard library, is of the
    set of the object file that it comes from: the linker never takes it for another's. Functions of other
    object files that the linker has made local stand behind a file without a name, at the end.
    """
    command = ["readelf", "--wide", "--symbols", module]
    table = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if ".symtab" not in table:
        return None
    sets, objects, hidden = {}, [], []
    for row in (line.split() for line in table.partition(".symtab")[2].splitlines()):
        if len(row) < 7:
            continue
        if row[3] == "FILE":
            objects.append([] if len(row) > 7 else hidden)
        elif row[3] == "FUNC" and len(row) > 7:
            place = objects[-1] if row[4] == "LOCAL" and objects else hidden
            place.append((int(row[1], 16), set_of(row[7])))
    sets |= dict(hidden)
    for functions in objects:
        if functions is hidden:
            continue
        own = {named for _, named in functions} - {""}
        assert len(own) <= 1, f"one object file has functions of {own}"
        sets |= {address: named or "".join(own) for address, named in functions}
    return sets


def disassembled(module):
    """Yield (function's address, its name, mnemonic, operands) for each instruction."""
    command = ["objdump", "--disassemble", "--no-show-raw-insn", "--wide", str(module)]
    address, name = 0, None
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.endswith(">:\n"):
                address, name = int(line.split()[0], 16), line.partition("<")[2][:-3]
            elif line.startswith(" ") and "\t" in line:
                text = line.split("\t", 1)[1].split("#")[0].removeprefix("{vex} ").removeprefix("{evex} ")
                mnemonic, _, operands = text.strip().partition(" ")
                yield address, name, mnemonic, operands
    assert process.returncode == 0


def strangers(module, sets):
    """Return the instructions that are not of their function's set, and how many of each kind a set has."""
    found, counts = Counter(), Counter()
    for address, name, mnemonic, operands in disassembled(module):
        which, isa = kind(mnemonic, operands), sets.get(address, "")
        counts[isa, which] += 1
        if which and which not in MAY[isa]:
            found[name, mnemonic] += 1
    return found, counts


@pytest.mark.slow
def test_no_instruction_above_the_baseline_outside_of_its_set():
    modules = [Path(_core.__file__), *RECORDER.glob("_core*.so")]
    named = {path: sets for path in modules if (sets := sets_of(path))}
    if not named:
        pytest.skip("no module with the names of its functions: `make wheel` leaves one in build/recorder")
    found, counts = strangers(*next(iter(named.items())))
    assert not found, found.most_common(5)
    for isa in _core.available_isas():  # and the names tell the sets apart
        assert sum(count for (name, _), count in counts.items() if name == isa) > 10_000
    if "avx512" in _core.available_isas():
        assert counts["avx512", "z"] > 100_000
    assert counts["", ""] > 10_000


@pytest.mark.parametrize(
    ("name", "belongs"),
    [
        ("_ZN6cnnlib6avx51212conv_forwardIfEEv", "avx512"),
        ("_ZN6cnnlib12_GLOBAL__N_14planEv", ""),
        ("_ZNK6cnnlib10avx512vnni8productsEv.cold", "avx512vnni"),
        ("_ZN12Eigen_avx2518internal4gebpEv", ""),
        ("_ZN10Eigen_avx28internal4gebpEv", "avx2"),
        ("_ZN10Eigen_base8internal4gebpEv", "base"),
        ("_ZN6cnnlib12_GLOBAL__N_111products_ifIXadL_ZNS_8avx2vnni13byte_productsEvEEEEPKvv", ""),
        ("_ZNSt6vectorIN6cnnlib4base4TileESaIS2_EE", "base"),
    ],
)
def test_names_say_their_set(name, belongs):
    assert set_of(name) == belongs


@pytest.mark.parametrize(
    ("instruction", "which"),
    [
        ("movaps %xmm1,%xmm0", ""),
        ("tzcnt %rax,%rdx", ""),
        ("popcnt %rax,%rdx", ""),
        ("vaddps %ymm1,%ymm2,%ymm3", "v"),
        ("vfmadd231pd (%rax),%ymm2,%ymm3", "v"),
        ("vaddps %ymm17,%ymm2,%ymm3", "z"),
        ("vaddps %zmm1,%zmm2,%zmm3", "z"),
        ("vmovups (%rax),%ymm1{%k1}{z}", "z"),
        ("kmovw %eax,%k1", "z"),
        ("vpdpbusd %zmm1,%zmm2,%zmm3", "n"),
        ("tdpbusd %tmm0,%tmm1,%tmm2", "a"),
        ("tilezero %tmm0", "a"),
        ("shlx %rax,%rbx,%rcx", "!"),
        ("vpermb %zmm1,%zmm2,%zmm3", "!"),
        ("vpopcntd %zmm1,%zmm2", "!"),
        ("vaddph %zmm1,%zmm2,%zmm3", "!"),
        ("vcvtph2ps %ymm1,%zmm2", "z"),
    ],
)
def test_instructions_have_a_kind(instruction, which):
    mnemonic, _, operands = instruction.partition(" ")
    assert kind(mnemonic, operands) == which
