# Photo Enhancer. Every target sets up what it needs: all it takes is Python 3.11 or newer and a package registry.
#   make test PYTHON=python3.12     with another Python
#   make test VENV=/tmp/venv        with another environment

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready

.DEFAULT_GOAL := help
.PHONY: help test lint demo lock pocket clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' Makefile

test: lint ## check the style and the types, then run every test
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(READY) ## check the style and the types
	$(BIN)/ruff check .
	$(BIN)/mypy

demo: $(READY) ## see the whole loop restore photographs on this machine
	$(BIN)/photo-enhancer demo

lock: $(BIN)/uv ## raise requirements.lock to the newest versions that pyproject.toml allows
	$(BIN)/uv pip compile pyproject.toml --extra dev --upgrade --universal --python-version 3.11 \
		--fork-strategy fewest --generate-hashes --no-annotate --no-emit-index-url \
		--custom-compile-command "make lock" --quiet --output-file requirements.lock

# Both stages of the shipped base; the second goes on from the first one's epoch 20. Hours on two CPU cores.
POCKET ?= pocket-base
pocket: $(READY) ## make the shipped base again: make pocket PHOTOS=folder
	@test -n "$(PHOTOS)" || { echo "say where the photographs are: make pocket PHOTOS=folder"; exit 2; }
	$(BIN)/photo-enhancer pretrain $(POCKET)/denoise --preset pocket --data $(PHOTOS)
	$(BIN)/photo-enhancer pretrain $(POCKET) --preset pocket-restoration --data $(PHOTOS) \
		--resume $(POCKET)/denoise/unet/checkpoints/epoch-000020

clean: ## remove what the build and the checks left behind; the environment and your results stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find flows tasks lora_core tests deployments -name __pycache__ -type d -prune -exec rm -rf {} +

# Compiled now, the libraries are imported in seconds the first time too. Where uv does not run or does not find the
# registry that pip is configured for, pip installs the same files.
$(READY): requirements.lock pyproject.toml | $(BIN)/uv
	$(BIN)/uv pip install --python $(BIN)/python --require-hashes --compile-bytecode -r requirements.lock \
		|| $(BIN)/python -m pip install --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# The lines of uv in the lock file: the installer is pinned and hash-checked like everything that it installs.
$(BIN)/uv: | $(BIN)/python
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip
	sed -n '/^uv==/,/[^\]$$/p' requirements.lock > $(VENV)/uv.lock
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r $(VENV)/uv.lock

$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit(f"Python 3.11 or newer is needed and \
	$(PYTHON) is {v.major}.{v.minor}: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
