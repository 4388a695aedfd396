PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help demo check test docs faults gpu-check format clean
.DEFAULT_GOAL := help

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | expand -t 11

$(INSTALLED): requirements.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	@touch $@

demo: $(INSTALLED) ## Train, score and show a summarizer on the embedded data set (no network, no GPU)
	$(BIN)/headcount train configs/docstrings.yaml

check: $(INSTALLED) ## Everything that CI runs: lint, types, import contracts, docs, tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory docs
	@$(MAKE) --no-print-directory test

test: $(INSTALLED) ## Run the tests (no network)
	$(BIN)/python -m pytest

docs: $(INSTALLED) ## Build the documentation into site/; a broken link or reference fails
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

faults: $(INSTALLED) ## Try every fault of docs/faults.md, and write its table (half an hour)
	FAULT_TABLE=docs/faults.md OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 0 -m faults tests/faults

gpu-check: $(INSTALLED) ## On a GPU machine: GPU tests, speed beside Hugging Face, deterministic mode; writes gpu.md
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[parity]'
	$(BIN)/python benchmarks/gpu.py

format: $(INSTALLED) ## Format and mend what ruff can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the environment and what tools leave (runs/ and the data cache stay)
	rm -rf $(VENV) build dist site src/*.egg-info .hypothesis .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find src tests -name __pycache__ -type d -exec rm -rf {} +
