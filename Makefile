# make search   installs into .venv, then runs the main job on the embedded benchmark
# make test     installs what the tests need as well, then runs the whole suite
#
# ARGS="..." is passed on: make search ARGS="--dataset cifar10 --seeds 10", or the quick
# part of the suite: make test ARGS='-m "not slow"'.
# PYTHON=...      the interpreter to make .venv with
# CONSTRAINTS=... a pip constraints file to install under

VENV ?= .venv
PYTHON ?=
ARGS ?=
CONSTRAINTS ?=
python := $(VENV)/bin/python
install := $(python) -m pip install --quiet --disable-pip-version-check \
	$(addprefix --constraint ,$(CONSTRAINTS))

# The BLAS that jax uses spins idle threads, which costs more than it gives.
export OPENBLAS_NUM_THREADS ?= 1
# Compiled programs are kept for the next run, by version of jaxlib and model of CPU.
cached := JAX_COMPILATION_CACHE_DIR="$${JAX_COMPILATION_CACHE_DIR:-$${XDG_CACHE_HOME:-$$HOME/.cache}/jaxnas/$$( \
	$(python) -c 'from importlib.metadata import version; print(version("jaxlib"))')-$$( \
	grep -m 1 'model name' /proc/cpuinfo 2>/dev/null | cksum | cut -d ' ' -f 1)}"

.PHONY: search test clean

search: $(VENV)/.experiments
	@$(cached) $(python) -m experiments.tw_sequential $(ARGS)

test: $(VENV)/.dev
	@$(cached) $(python) -m pytest -n auto --dist worksteal $(ARGS)

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache

# A name like python3.12 may exist and not run, so each candidate is asked.
$(VENV)/.made:
	@for python in $(PYTHON) python3 python3.13 python3.12 python3.11 python3.14; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    echo "creating $(VENV) with $$($$python --version)"; \
	    $$python -m venv --clear $(VENV) && touch $@ && exit 0; \
	  fi; \
	done; \
	echo "error: no python3 on the path is 3.11 or newer and can create a virtual" \
	  "environment: install one, or name it with make PYTHON=/path/to/python3" >&2; \
	exit 1

$(VENV)/.experiments: $(VENV)/.made pyproject.toml $(CONSTRAINTS)
	@echo "installing jaxnas into $(VENV)"
	@$(install) --editable '.[experiments]'
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml $(CONSTRAINTS)
	@echo "installing jaxnas and its test tools into $(VENV)"
	@$(install) --editable '.[dev]'
	@touch $@ $(VENV)/.experiments
