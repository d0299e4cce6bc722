# `make demo` segments the sample CT, `make test` checks and tests everything. Both set up what they need.
# `make demo` needs no torch. On a machine without a GPU, point pip at torch's CPU builds before `make test`.
PYTHON ?= python3
DEV := .venv
DEMO := .venv-demo
SAMPLE := test/input/images/mediastinal-ct
PIP_FLAGS := --disable-pip-version-check --quiet --progress-bar off

.PHONY: help demo test lint unit setup clean

help:
	@echo "make demo     segment the sample CT: mask and picture under demo-output/, Dice against its truth"
	@echo "make test     lint, type check and tests"
	@echo "make clean    remove what the other targets made, environments included"

demo: $(DEMO)/.installed
	$(DEMO)/bin/python process.py batch $(SAMPLE) --truth test/expected -o demo-output --overwrite

test: lint unit

lint: $(DEV)/.installed
	$(DEV)/bin/ruff check .
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/mypy

unit: $(DEV)/.installed
	$(DEV)/bin/python -m pytest

setup: $(DEV)/.installed

$(DEMO)/.installed: requirements-cpu.txt
	$(call make_venv,$(DEMO))
	$(DEMO)/bin/python -m pip install $(PIP_FLAGS) -r requirements-cpu.txt
	@touch $@

# torch goes first, so that nothing that depends on it can choose another build
$(DEV)/.installed: requirements-cpu.txt requirements.txt requirements-train.txt requirements-dev.txt
	$(call make_venv,$(DEV))
	$(DEV)/bin/python -m pip install $(PIP_FLAGS) torch==2.13.0
	$(DEV)/bin/python -m pip install $(PIP_FLAGS) -r requirements-dev.txt
	@touch $@

define make_venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: run make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "Installing Python packages into $(1) ..."
	@test -x $(1)/bin/python || $(PYTHON) -m venv $(1)
endef

clean:
	rm -rf $(DEV) $(DEMO) demo-output test-output .pytest_cache .mypy_cache .ruff_cache .hypothesis
