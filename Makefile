# `make demo` and `make test` do all the set-up on a fresh machine: a virtual environment in .venv/ with
# the exact versions of constraints.txt. Python 3.11 or later; another than python3: make PYTHON=python3.12 test

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup demo test lint format constraints clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt tools/make_venv.sh
	sh tools/make_venv.sh $(PYTHON) .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

demo: $(READY)
	$(BIN)/tuneoff run demo

test: $(READY)
	sh tools/get_browser.sh
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Newest versions that work together, as exact pins. torch stays at the version named here: its plain
# newest build brings gigabytes of CUDA packages to machines without a card.
constraints:
	rm -rf .constraints-venv
	sh tools/make_venv.sh $(PYTHON) .constraints-venv
	.constraints-venv/bin/python -m pip install --quiet torch==2.13.0
	.constraints-venv/bin/python -m pip install --quiet '.[dev]'
	.constraints-venv/bin/python -m pip freeze --all --exclude pip --exclude tuneoff | sed 's/+cpu$$//' > constraints.txt
	rm -rf .constraints-venv

clean:
	rm -rf .venv .constraints-venv runs build dist
