# Everything from a clean clone, on a machine with python3 (3.11 or later) and make:
# each target makes its own virtual environment first, once, in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TESTS ?= tests

.PHONY: demo test lint bench docs clean

demo: $(READY)  ## realize the smallest recipe and predict with it, twice: the second time from the cache
	$(BIN)/reprobuild realize tutorial
	echo '{"text": "abc"}' | $(BIN)/reprobuild predict tutorial --input - --output -
	echo '{"text": "abc"}' | $(BIN)/reprobuild predict tutorial --input - --output -

test: $(READY)  ## run the tests; `make test TESTS=tests/unit` runs some
	$(BIN)/python -m pytest $(TESTS)

lint: $(READY)  ## style, types, and the floors of the package
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.peers  ## one table: this tool beside its peers
	$(BIN)/python -m benchmarks

docs: $(READY)  ## check the documentation: links, settings, errors, verbs
	$(BIN)/python docs/check.py

clean:  ## remove what the other targets made, but not the store
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist

$(VENV)/.peers: $(READY) benchmarks/requirements.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement benchmarks/requirements.txt
	@touch $@

$(READY): pyproject.toml requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo 'error: $(PYTHON) is missing or older than Python 3.11' >&2; \
	  echo 'hint: install a newer one, then: make PYTHON=python3.11 $(MAKECMDGOALS)' >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo 'error: $(PYTHON) cannot make virtual environments (its module ensurepip is not installed)' >&2; \
	  echo 'hint: on Debian and Ubuntu: apt-get install python3-venv' >&2; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements-dev.txt --editable .
	@# Compiled once, here: a warm start must not depend on who may write beside the sources later.
	$(BIN)/python -m compileall -q reprobuild
	@touch $@
