# Needs Python 3.11+ and make, nothing else: the first run makes .venv and installs the pinned lock into it.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup demo test check lock

setup: $(READY)

$(READY): pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Tollgate needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[train,dev]'
	touch $@

demo: setup
	$(BIN)/tollgate demo

test: setup
	$(BIN)/pytest --numprocesses auto --dist loadfile

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Takes the versions of a fresh install as the new lock: names and versions only, so that any index serves it.
lock:
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet --editable '.[train,dev,bench,remote,spark]' 'torch==2.13.0'
	.venv-lock/bin/python -m pip freeze --exclude-editable --exclude tollgate > requirements.lock
	rm -rf .venv-lock
