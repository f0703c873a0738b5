# Everything a stranger needs: Python >= 3.11 and make. The first target sets the rest up.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: help demo test test-all test-gpu check docs bench lock licences tensorboard clean
.DEFAULT_GOAL := help

help:            ## this list
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 22

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else "medvision needs Python 3.11 to 3.13; choose one with make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes --compile-bytecode -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

demo: $(READY)   ## the main job on the built-in phantom, to a table with intervals and a report
	$(BIN)/medvision train

test: $(READY)   ## quick tests
	$(BIN)/python -m pytest -n 2 -m "not slow and not gpu"

test-all: $(READY) ## every test a machine without an accelerator can run
	$(BIN)/python -m pytest -n 2 -m "not gpu"

test-gpu: $(READY) ## tests that need a GPU
	$(BIN)/python -m pytest -m gpu

check: $(READY)  ## style, types, import contract, documentation
	$(BIN)/ruff check src tests experiments notebooks docs
	$(BIN)/ruff format --check src tests experiments notebooks docs
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) docs

docs: $(READY)   ## the pages of the documentation, to site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: $(READY)  ## speed beside what a user would pick instead, an hour; writes experiments/speed/README.md
	PYTHON=$(BIN)/python bash experiments/speed/run.sh

lock: $(READY)   ## pin every dependency with hashes, naming no index
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  --extra tune --extra launch --group dev --group docs pyproject.toml --output-file requirements.lock

licences: $(READY) ## write the table of THIRD_PARTY.md
	$(BIN)/python tests/third_party.py

tensorboard: $(READY) ## look at the runs
	$(BIN)/tensorboard --logdir $${MEDVISION_RUNS:-runs}

clean:           ## remove the environment and caches, never runs
	rm -rf $(VENV) site .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
