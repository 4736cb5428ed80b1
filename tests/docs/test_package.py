"""What is installed: metadata, the compiled module's surface, what an import costs, the choice of kernels."""

import ast
import importlib
import importlib.metadata
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import typing
import zlib
from pathlib import Path

import cnnlib
import pytest
from cnnlib import _core, course, layers, models, naive
from cnnlib._system.packages import EXTRAS


def run_python(code, **environment):
    """Run `code` in a fresh interpreter whose environment has these variables (None: without it)."""
    variables = {name: value for name, value in environment.items() if value is not None}
    inherited = {name: value for name, value in os.environ.items() if name not in environment}
    return subprocess.run(
        [sys.executable, "-c", code], env=inherited | variables, capture_output=True, text=True, timeout=300
    )


def test_numpy_is_the_only_required_dependency():
    required = [line for line in importlib.metadata.requires("cnnlib") if "extra ==" not in line]
    assert len(required) == 1
    assert re.fullmatch(r"numpy *\(?>=[0-9.]+\)?", required[0])


@pytest.mark.parametrize(
    ("extra", "package"),
    [
        ("plots", "matplotlib"),
        ("progress", "tqdm"),
        ("data", "pooch"),
        ("images", "pillow"),
        ("images", "filelock"),
        ("tensorboard", "tensorboardx"),
        ("onnx", "onnx"),
        ("sklearn", "scikit-learn"),
        ("completion", "shtab"),
        ("serve", "starlette"),
        ("serve", "uvicorn"),
        ("serve", "python-multipart"),
    ],
)
def test_each_extra_brings_its_package(extra, package):
    lines = [
        line.replace('"', "'").lower()
        for line in importlib.metadata.requires("cnnlib")
        if not line.startswith("cnnlib")
    ]
    assert any(line.startswith(package) and f"extra == '{extra}'" in line for line in lines)
    assert extra in importlib.metadata.metadata("cnnlib").get_all("Provides-Extra")
    everything = next(line for line in importlib.metadata.requires("cnnlib") if line.startswith("cnnlib["))
    assert extra in everything


@pytest.mark.parametrize(("extra", "package"), [("mpi", "mpi4py"), ("torch", "torch")])
def test_some_extras_are_asked_for_by_name(extra, package):
    """mpi4py needs an MPI library, which "all" could not bring; torch is too large for it."""
    (line,) = [line for line in importlib.metadata.requires("cnnlib") if line.startswith(package)]
    assert re.search(f"extra == ['\"]{extra}['\"]", line)


def test_info_knows_every_extra():
    found = {}
    for line in importlib.metadata.requires("cnnlib"):
        match = re.fullmatch(r"([\w.-]+).*extra == ['\"](\w+)['\"].*", line)
        if match and match[1] != "cnnlib" and "python_version" not in line:  # `all`, and what Python has
            found.setdefault(match[2], set()).add(match[1].lower())
    assert found == {name: set(map(str.lower, packages)) for name, packages in EXTRAS.items()}


def test_version_is_the_same_everywhere():
    assert cnnlib.__version__ == _core.__version__ == importlib.metadata.version("cnnlib")


def test_licences_are_installed():
    names = [path.name for path in importlib.metadata.files("cnnlib") if "licenses" in path.parts]
    assert {"LICENSE", "MPL-2.0.txt", "THIRD_PARTY.md", "digits.LICENSE.txt"} <= set(names)


def test_command_is_an_entry_point():
    (command,) = importlib.metadata.entry_points(group="console_scripts", name="cnnlib")
    assert command.value == "cnnlib.__main__:main"


def test_package_is_marked_as_typed():
    assert Path(cnnlib.__file__).with_name("py.typed").is_file()


def test_wheel_holds_no_test_and_one_compiled_module():
    files = importlib.metadata.files("cnnlib")
    assert not [path for path in files if path.name.startswith(("test_", "conftest"))]
    assert len([path for path in files if path.name.endswith(".so")]) == 1


def test_package_stays_as_small_as_the_readme_says_compressed():
    files = [path.locate() for path in importlib.metadata.files("cnnlib") if path.suffix != ".pyc"]
    assert sum(len(zlib.compress(Path(path).read_bytes())) for path in files) < 3.95e6  # "some 3.8 megabytes"


@pytest.mark.skipif(shutil.which("nm") is None, reason="nm is not installed")
def test_installed_files_have_a_bill_of_materials():
    found = importlib.metadata.files("cnnlib") or ()
    (file,) = [file for file in found if file.match("*.dist-info/sboms/cnnlib.cdx.json")]
    bill = json.loads(file.read_text())
    assert bill["metadata"]["component"]["version"] == cnnlib.__version__
    versions = {part["name"]: part.get("version") for part in bill["components"]}
    assert versions["Eigen"] in (None, _core.eigen_version)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the options are those of GNU nm")
def test_module_exports_its_entry_point_alone():
    listing = subprocess.run(
        ["nm", "--dynamic", "--defined-only", _core.__file__], capture_output=True, text=True, check=True
    )
    assert [line.split()[-1] for line in listing.stdout.splitlines()] == ["PyInit__core"]


# Of the compiler and of the system.
LIBRARIES = r"(lib(gomp|omp|stdc\+\+|gcc_s)|lib(c|m|pthread)\.so|libc\.musl|ld-)"


@pytest.mark.skipif(shutil.which("readelf") is None, reason="readelf is not installed")
def test_module_needs_the_compilers_and_the_systems_libraries_alone():
    header = _readelf("--dynamic")
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", header)
    assert needed
    assert [name for name in needed if not re.match(LIBRARIES, name)] == []
    assert "(TEXTREL)" not in header


@pytest.mark.skipif(shutil.which("readelf") is None, reason="readelf is not installed")
def test_module_demands_no_newer_processor_and_no_executable_stack():
    """The loader refuses a module whose notes name more than the processor has: AVX code is chosen later."""
    assert re.search(r"ISA needed:.*x86-64-v[34]", _readelf("--notes")) is None
    (stack,) = re.findall(r"GNU_STACK.*", _readelf("--program-headers"))
    assert re.search(r"\bRW +0x", stack)


def _readelf(option):
    command = ["readelf", "--wide", option, _core.__file__]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_import_brings_in_no_optional_package():
    heavy = [
        "matplotlib",
        "torch",
        "tqdm",
        "pooch",
        "PIL",
        "onnx",
        "sklearn",
        "importlib.metadata",
        "tensorboardX",
        "starlette",
        "uvicorn",
    ]
    code = f"import sys, cnnlib; print([name for name in {heavy!r} if name in sys.modules])"
    baseline = run_python(code.replace("cnnlib", "numpy"))  # what NumPy itself imports is no fault of ours
    result = run_python(code)
    assert result.returncode == 0, result.stderr
    assert result.stdout == baseline.stdout


def test_layers_run_without_any_optional_package():
    code = """
import sys
for name in ("matplotlib", "torch", "tqdm", "pooch", "PIL", "scipy"):
    sys.modules[name] = None  # its import fails
import cnnlib
from cnnlib import data, fast_layers, gradient_check, models, naive, optim, solver
out, _ = cnnlib.relu_forward([-1.0, 2.0])
print(out)
"""
    result = run_python(code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[0. 2.]"


@pytest.mark.parametrize("name", ["unknown", "AVX2", "base "])
def test_unknown_instruction_set_is_an_error_of_the_import(name):
    result = run_python("import cnnlib", CNNLIB_ISA=name)
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: CNNLIB_ISA")
    assert repr(name) in last
    assert all(isa in last for isa in _core.available_isas())


@pytest.mark.parametrize("name", ["unknown", "VNNI"])
def test_unknown_limit_of_int8_is_an_error_of_the_import(name):
    result = run_python("import cnnlib", CNNLIB_INT8=name)
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last == f"ImportError: CNNLIB_INT8: '{name}' is none of: none, vnni, amx"


@pytest.mark.parametrize("name", ["none", "vnni", "amx"])
def test_products_of_bytes_can_be_limited(name):
    result = run_python("from cnnlib import _core; print(_core.active_products())", CNNLIB_INT8=name)
    extensions = ("vnni", "amx")[: ("none", "vnni", "amx").index(name)]
    (set_,) = re.findall(r"^(base|avx2|avx512)\w*$", result.stdout, re.MULTILINE)
    assert result.stdout.strip().removeprefix(set_) in ("", *extensions)


@pytest.mark.parametrize("name", _core.available_isas())
def test_instruction_set_can_be_forced(name):
    result = run_python("import cnnlib; cnnlib.show_config()", CNNLIB_ISA=name)
    assert result.returncode == 0, result.stderr
    assert re.search(rf"^instruction set +{name}$", result.stdout, re.MULTILINE)


@pytest.mark.parametrize("name", [None, ""])
def test_best_instruction_set_is_the_default(name):
    result = run_python("from cnnlib import _core; print(_core.active_isa())", CNNLIB_ISA=name)
    assert result.stdout.strip() == _core.available_isas()[0], result.stderr


def test_use_isa_switches_and_refuses():
    before = _core.active_isa()
    try:
        for name in _core.available_isas():
            _core.use_isa(name)
            assert _core.active_isa() == name
        with pytest.raises(ValueError, match="'mmx'"):
            _core.use_isa("mmx")
        assert _core.active_isa() == name
    finally:
        _core.use_isa(before)


def test_stubs_name_what_the_module_has():
    stub = ast.parse(Path(cnnlib.__file__).with_name("_core.pyi").read_text(encoding="utf-8"))
    stubbed = {node.name for node in stub.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    stubbed |= {node.target.id for node in stub.body if isinstance(node, ast.AnnAssign)}
    stubbed |= {name.id for node in stub.body if isinstance(node, ast.Assign) for name in node.targets}
    assert {name for name in stubbed if not name.startswith("_")} == {
        name for name in vars(_core) if not name.startswith("_")
    }


def test_public_names_exist():
    assert len(set(cnnlib.__all__)) == len(cnnlib.__all__)
    missing = [name for name in cnnlib.__all__ if not hasattr(cnnlib, name)]
    assert not missing
    assert set(cnnlib.__all__) <= set(dir(cnnlib))


PUBLIC_MODULES = [f"cnnlib.{name}" for name in cnnlib.__all__ if inspect.ismodule(getattr(cnnlib, name))] + [
    "cnnlib",
    "cnnlib.distributed",
    "cnnlib.layers.explanation",
    "cnnlib.course.keep_ratio",
    "cnnlib.course.optim",
    "cnnlib.onnx",
    "cnnlib.pretrained",
    "cnnlib.safetensors",
    "cnnlib.typing",
]


def public_functions():
    """Each function, and each public method of each class, that a public module names in its `__all__`."""
    for module in map(importlib.import_module, PUBLIC_MODULES):
        for name in getattr(module, "__all__", ["explain"]):
            value = getattr(module, name)
            if inspect.isfunction(value):
                yield f"{module.__name__}.{name}", value
            elif inspect.isclass(value):
                for method, function in vars(value).items():
                    function = getattr(function, "__func__", function)
                    if inspect.isfunction(function) and (method == "__init__" or not method.startswith("_")):
                        yield f"{module.__name__}.{name}.{method}", function


def test_public_functions_say_their_types():
    functions = dict(public_functions())
    assert len(functions) > 150
    for name, function in functions.items():
        signature = inspect.signature(function)
        unsaid = [
            parameter.name
            for parameter in signature.parameters.values()
            if parameter.annotation is parameter.empty and parameter.name not in ("self", "cls")
        ]
        assert not unsaid, name
        assert signature.return_annotation is not signature.empty, name


def test_types_of_layers_and_models_are_there():
    functions = [getattr(layers, name) for name in layers.__all__]
    functions += [getattr(naive, name) for name in naive.__all__]
    for model in (models.ConvNet, models.FullyConnectedNet, models.ThreeLayerConvNet, course.TwoLayerNet):
        functions += [model.__init__, model.loss]
    for function in functions:
        hints = typing.get_type_hints(function)
        names = set(inspect.signature(function).parameters) - {"self"} | {"return"}
        assert names == set(hints), function
