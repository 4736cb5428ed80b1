# Everything happens in .venv; stamp files there and in dist/ keep finished work from being done again.
#   PYTHON=python3.12   another interpreter (3.10 or later); .venv is made anew for it
#   PEERS=1             also install torch, for the comparisons in `test` and `bench`
#   WERROR=ON           compiler warnings stop the build, as in CI
#   CXX=clang++         another compiler
#   NEWEST=1            the newest versions of all packages, not those of packaging/constraints.txt
PYTHON ?= python3
PEERS ?=
NEWEST ?=
WERROR ?= OFF
TRAIN_ARGS ?=
BENCH_ARGS ?=
PYTEST_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
ENVIRONMENT := $(VENV)/.python-$(VERSION)
DIST := dist
WHEEL := $(DIST)/.wheel-$(VERSION)
PEER_STAMP := $(if $(PEERS),$(VENV)/.peers)

CPP := $(shell find cpp -name '*.?pp')
SOURCES := CMakeLists.txt pyproject.toml README.md LICENSE $(CPP) $(wildcard cmake/*.* licenses/* packaging/*.*) \
  $(shell find python -type f ! -name '*.so' ! -name '*.pyc')

export CXX
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The same packages on every day, those that build the wheel included; pip before 25.3 reads the first of these for both.
CONSTRAINTS := $(CURDIR)/packaging/constraints.txt
ifeq ($(NEWEST),)
export PIP_CONSTRAINT := $(CONSTRAINTS)
export PIP_BUILD_CONSTRAINT := $(CONSTRAINTS)
endif
# The tests are to see the installed package alone.
unexport PYTHONPATH

.PHONY: help train test test-newest lock clang test-aarch64 test-windows bench lint format wheel twice portable-wheel windows-wheel macos-wheel aarch64-wheel docs linkcheck pictures notebooks asan asan-smoke tsan many-cores packages clean
.DELETE_ON_ERROR:
# One pip at a time in .venv; the compilation itself uses all cores.
.NOTPARALLEL:

help:
	@echo 'make train     compile cnnlib for this processor, install it into .venv and train on handwritten digits (TRAIN_ARGS=...)'
	@echo 'make test      build the wheel, install it into .venv and run the tests (PEERS=1, PYTEST_ARGS=...)'
	@echo 'make test-newest  the same with the newest versions of all packages, in .venv-newest'
	@echo 'make lock      write the versions that the other targets install into packaging/constraints.txt'
	@echo 'make bench     time the layers against the plain NumPy ones, with PEERS=1 against torch too'
	@echo 'make lint      check format, style and types; `make format` mends the first'
	@echo 'make wheel     build the wheel into dist/'
	@echo 'make twice     build the wheel in two folders and compare the bytes'
	@echo 'make portable-wheel  one that other Linux systems accept, with its OpenMP library inside'
	@echo 'make windows-wheel  cross-build wheels for Windows (WINDOWS_PYTHONS="3.10 3.11 3.12 3.13"), with zig from PyPI'
	@echo 'make macos-wheel  the same for macOS on Arm (MACOS_PYTHONS=...); `make aarch64-wheel` for Linux on Arm, by g++'
	@echo 'make clang     run the front end of Clang over every unit, for x86-64 and for 64-bit Arm, as CI does'
	@echo 'make docs      build the documentation into build/site; `make linkcheck` asks the network for the links in it'
	@echo 'make asan      run the kernels under the address and undefined-behaviour sanitizers (ISAS="base avx2 avx512")'
	@echo 'make asan-smoke  the quickest of them with one set, as CI does'
	@echo 'make tsan      run the kernels under the thread sanitizer (the same)'
	@echo 'make many-cores  predict what 16 cores would do, as CI does (MANY_CORES_ARGS=...)'
	@echo 'make test-aarch64  run the tests of the kernels on an emulated 64-bit Arm (AARCH64_TESTS=..., PYTEST_ARGS=...)'
	@echo 'make test-windows  run tests and a training of the Windows wheel under wine (WINDOWS_TESTS=..., PYTEST_ARGS=...)'
	@echo 'make clean     remove what the other targets made, .venv included'

train: $(VENV)/.own
	$(BIN)/cnnlib train $(TRAIN_ARGS)

test: $(VENV)/.installed $(VENV)/.test $(PEER_STAMP)
	$(BIN)/pytest tests $(PYTEST_ARGS)

# The wheel is built anew as well, by the newest compilers of its Python packages.
test-newest:
	$(MAKE) test NEWEST=1 VENV=.venv-newest DIST=dist/newest

# One file for every Python and system. uv ignores what is installed here.
LOCKED_GROUPS := test peers lint docs notebooks build cross lock
lock: $(VENV)/.lock
	$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.10 --no-annotate \
	  --custom-compile-command 'make lock' --all-extras $(LOCKED_GROUPS:%=--group %) pyproject.toml \
	  --output-file $(CONSTRAINTS)

bench: $(VENV)/.installed $(PEER_STAMP)
	$(BIN)/cnnlib bench $(BENCH_ARGS)

lint: $(VENV)/.installed $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(CPP)
	$(BIN)/stubtest cnnlib._core
	$(BIN)/mypy

format: $(VENV)/.lint
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)

wheel: $(WHEEL)
	@ls -l $(DIST)/*.whl

SPHINX = OMP_NUM_THREADS=1 $(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --jobs 2
docs: $(VENV)/.installed $(VENV)/.docs $(PEER_STAMP)
	$(SPHINX) -b html docs build/site
	@echo build/site/index.html

linkcheck: $(VENV)/.installed $(VENV)/.docs
	$(SPHINX) -b linkcheck docs build/links

# Pictures of pages and outputs of notebooks. The tests run both and compare what is printed, but no pixels.
pictures: $(VENV)/.extras
	$(BIN)/python docs/pictures/diagrams.py docs/images
	$(BIN)/python docs/measured.py
	$(BIN)/python docs/run_page.py docs/tutorial.md --pictures docs/images

notebooks: $(VENV)/.extras $(VENV)/.notebooks
	$(BIN)/python docs/notebooks.py

# What is committed, built in two folders: the same bytes.
twice: $(VENV)/.pip
	.ci/build_twice "$(CURDIR)/$(BIN)/python"

# A wheel for other Linux systems than this one.
portable-wheel: $(VENV)/.wheels
	@mkdir -p build/portable
	cmake/portable/wheel.sh build/portable $(BIN)/python
	$(BIN)/python .ci/check_wheel.py --no-import build/portable/*.whl

# What is missing is said in one line, with Debian's package for it.
define need
	@$(1) || { echo "cnnlib: $(2)" >&2; exit 1; }
endef

$(ENVIRONMENT):
	$(call need,test -n "$(VERSION)",'$(PYTHON)' does not run: apt-get install python3)
	$(call need,$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))',Python 3.10 or later is needed; '$(PYTHON)' is $(VERSION))
	$(call need,$(PYTHON) -c 'import ensurepip$(comma) venv' 2>/dev/null,'$(PYTHON)' has no venv module: apt-get install python3-venv)
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

# One that knows --group.
$(VENV)/.pip: $(ENVIRONMENT)
	$(PIP) install --quiet --upgrade 'pip>=25.1'
	@touch $@

comma := ,
define need_compiler
	$(call need,command -v $(firstword $(CXX)) >/dev/null,no C++ compiler '$(firstword $(CXX))': apt-get install g++)
	$(call need,test -f "$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h",the headers of '$(PYTHON)' are missing: apt-get install python3-dev)
endef
DEFINE := --config-settings=cmake.define

$(WHEEL): $(SOURCES) | $(ENVIRONMENT)
	$(need_compiler)
	@rm -rf $(DIST) build/recorder && mkdir -p $(DIST)
	$(PIP) wheel --no-deps --wheel-dir $(DIST) $(DEFINE).CNNLIB_WERROR=$(WERROR) $(DEFINE).CNNLIB_ISAS=all \
	  $(DEFINE).CNNLIB_VIRTUAL_CORES=$(CURDIR)/build/recorder .
	@touch $@

# For `make train`: this processor's widest instruction set alone, unless there is a wheel with all.
$(VENV)/.own: $(SOURCES) $(ENVIRONMENT)
	$(need_compiler)
	@if [ -e $(WHEEL) ] && [ -z "$$(find $(SOURCES) -newer $(WHEEL))" ]; then set -- $(DIST)/*.whl; else \
	  echo 'Compiling for this processor alone (`make wheel`: for all) ...' && rm -f $(VENV)/.installed && \
	  set -- $(DEFINE).CNNLIB_WERROR=$(WERROR) $(DEFINE).CNNLIB_ISAS=widest .; fi; \
	  $(PIP) install --quiet --force-reinstall --no-deps "$$@"
	$(PIP) install --quiet 'cnnlib[plots,progress]'
	@touch $@

$(VENV)/.installed: $(WHEEL) $(ENVIRONMENT)
	$(PIP) install --quiet --force-reinstall --no-deps $(DIST)/*.whl
	$(PIP) install --quiet $(DIST)/*.whl
	@touch $@

$(VENV)/.extras: $(VENV)/.installed
	$(PIP) install --quiet "$$(echo $(DIST)/*.whl)[all]"
	@touch $@

$(foreach group,test lint peers docs notebooks build wheels cross lock,$(VENV)/.$(group)): $(VENV)/.%: pyproject.toml $(CONSTRAINTS) $(VENV)/.pip
	$(PIP) install --quiet --group $*
	@touch $@

# The kernels of one instruction set under sanitizers, in a folder that goes before the installed package. LD_PRELOAD,
# since Python itself is not built with the sanitizers.
ISAS ?= base $(shell grep -ow -m1 avx2 /proc/cpuinfo 2>/dev/null) $(if $(shell grep -ow -m1 avx512bw /proc/cpuinfo 2>/dev/null),avx512)
# Which tests: pytest's markers, which pyproject.toml explains.
# 'plain' are those that want the baseline in every build, or fork, which g++'s sanitizer does not survive with threads.
ASAN_TESTS ?= -m '(sets or borders) and not plain'
# Without comparisons with torch, whose import takes five seconds there.
SMOKE_TESTS ?= -m 'smoke and not plain and not peers'
# Threads work at the same time, on arrays that nobody changes: a fork is more than ThreadSanitizer takes.
TSAN_TESTS ?= -m threads
runtimes = $(foreach library,$(1),$(shell $(CXX) -print-file-name=lib$(library).so))

SANITIZED := $(foreach isa,base avx2 avx512,asan-$(isa) tsan-$(isa)) asan-smoke-base asan-smoke-avx2
$(SANITIZED:%=build/%/.installed): build/%/.installed: $(SOURCES) CMakePresets.json | $(ENVIRONMENT)
	@rm -rf $(@D)
	$(PIP) install --quiet --no-deps --target $(@D) --config-settings=cmake.args=--preset=$* \
	  --config-settings=cmake.build-type=RelWithDebInfo --config-settings=install.strip=false .
	@touch $@

# Python's own allocations would drown a leak report. g++ does not align the frames of detect_stack_use_after_return
# for vectors. Some tests ask for more memory than there is. Reports go to stderr itself, which pytest leaves alone.
# PYTHONMALLOC=malloc: Python's objects are watched as arrays are, and what the core allocates.
ASAN_MALLOC = malloc
asan: $(foreach isa,$(ISAS),asan-$(isa))
asan-%: build/asan-%/.installed $(VENV)/.installed $(VENV)/.test
	PYTHONPATH=$(<D) CNNLIB_ISA=$(*:smoke-%=%) PYTHONMALLOC=$(ASAN_MALLOC) UBSAN_OPTIONS=print_stacktrace=1 \
	  ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0:allocator_may_return_null=1 LD_PRELOAD="$(call runtimes,asan ubsan stdc++)" \
	  $(BIN)/pytest -p no:cacheprovider --capture=sys $(ASAN_TESTS) $(PYTEST_ARGS)

# With the one set whose kernels compile fastest of those with intrinsics; without checks of a pointer's alignment and
# for null, a third of the compilation: the processor itself stops at vectors that do not lie right, and at address 0.
# Python's objects stay in its own pools: two fifths less for the pools' comparison with the loops.
SMOKE := asan-smoke-$(or $(filter avx2,$(ISAS)),base)
asan-smoke: ASAN_TESTS := $(SMOKE_TESTS)
asan-smoke: ASAN_MALLOC := pymalloc
asan-smoke: $(SMOKE)

# ThreadSanitizer needs the addresses where it expects them, so without their randomisation.
tsan: $(foreach isa,$(ISAS),tsan-$(isa))
tsan-%: build/tsan-%/.installed $(VENV)/.installed $(VENV)/.test
	PYTHONPATH=$(<D) CNNLIB_ISA=$* LD_PRELOAD="$(call runtimes,tsan)" \
	  TSAN_OPTIONS=halt_on_error=1:report_thread_leaks=0:suppressions=$(CURDIR)/cmake/tsan_suppressions.txt \
	  setarch -R $(BIN)/pytest -p no:cacheprovider --capture=sys $(TSAN_TESTS) $(PYTEST_ARGS)

# What the core's loops would take on 16 cores, of which a second module, linked with the wheel's, records each task;
# fails where that wastes too much.
MANY_CORES_ARGS ?= --isa base --groups conv pool norm --layers resnet18 --batches 8 --threads 16 --repeats 3 --floor 0.45
many-cores: $(VENV)/.installed
	@rm -rf build/virtual
	$(BIN)/python -m zipfile -e $(DIST)/*.whl build/virtual
	cp build/recorder/_core.* build/virtual/cnnlib
	PYTHONPATH=build/virtual $(BIN)/python bench/many_cores.py $(MANY_CORES_ARGS)

# A wheel for 64-bit Arm's Linux with Debian 12's headers, and its Python under qemu-user that runs the tests with it.
AARCH64 := build/aarch64
AARCH64_PYTHON := $(AARCH64)/sysroot/python
AARCH64_TESTS ?= -m sets
$(AARCH64_PYTHON): cmake/aarch64/sysroot.sh pyproject.toml | $(VENV)/.pip
	cmake/aarch64/sysroot.sh $(@D) $(PIP)
	@touch $@

$(AARCH64)/.installed: $(SOURCES) cmake/aarch64/toolchain.cmake $(AARCH64_PYTHON) $(VENV)/.build $(VENV)/.cross
	$(call need,command -v aarch64-linux-gnu-g++-12 >/dev/null,a wheel for aarch64 needs a cross compiler: apt-get install g++-12-aarch64-linux-gnu)
	@rm -rf $(AARCH64)/*.whl $(AARCH64)/package
	cmake/cross/wheel.sh aarch64 $(AARCH64) $(BIN)/python 3.11
	$(BIN)/python -m zipfile -e $(AARCH64)/*.whl $(AARCH64)/package
	@touch $@

aarch64-wheel: $(AARCH64)/.installed
	$(BIN)/python .ci/check_wheel.py --no-import $(AARCH64)/*.whl

test-aarch64: $(AARCH64)/.installed
	PYTHONPATH=$(CURDIR)/$(AARCH64)/package $(CURDIR)/$(AARCH64_PYTHON) -m pytest -p no:cacheprovider $(AARCH64_TESTS) $(PYTEST_ARGS)

# Wheels for Windows and macOS, by zig's clang++. Whatever differs between versions of Python is compiled for each.
WINDOWS_PYTHONS ?= 3.10 3.11 3.12 3.13
MACOS_PYTHONS ?= $(WINDOWS_PYTHONS)
windows-wheel: PYTHONS := $(WINDOWS_PYTHONS)
macos-wheel: PYTHONS := $(MACOS_PYTHONS)
windows-wheel macos-wheel: %-wheel: $(VENV)/.build $(VENV)/.cross
	cmake/cross/wheel.sh $* build/$* $(BIN)/python $(PYTHONS)
	$(BIN)/python .ci/check_wheel.py --no-import build/$*/*.whl

# The front ends of the compilers that build those wheels; no optimisation, no link: a minute.
clang: $(VENV)/.build $(VENV)/.cross
	cmake/cross/front_end.sh windows build/windows $(BIN)/python $(WINDOWS_PYTHON)
	cmake/cross/front_end.sh macos build/macos $(BIN)/python $(WINDOWS_PYTHON)

# The wheel for one version of Python, after `make windows-wheel`: kernels, files, the Solver, and a training.
WINDOWS_PYTHON := 3.12
WINDOWS_TESTS ?= -m windows
test-windows: $(VENV)/.build
	cmake/cross/wine.sh build/windows $(BIN)/python $(WINDOWS_PYTHON)
	build/windows/python -m pytest -p no:cacheprovider $(WINDOWS_TESTS) $(PYTEST_ARGS)
	build/windows/python -m cnnlib train --out build/windows/run --overwrite $(TRAIN_ARGS)

# What the parts of .ci/run install into .venv beside the wheel, before they run beside each other.
packages: $(VENV)/.lint $(VENV)/.docs $(VENV)/.test $(VENV)/.build $(VENV)/.cross $(PEER_STAMP)

clean:
	rm -rf build dist $(VENV) .venv-newest .pytest_cache .ruff_cache .mypy_cache
