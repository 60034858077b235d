# Each target prepares .venv by itself; nothing else is needed but Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready
OUT ?= out/reef

.PHONY: distill test lint docs setup

distill: $(READY)  ## distil the embedded default, informed beside uninformed
	$(VENV)/bin/concord distill reef --out $(OUT)

test: $(READY)
	$(VENV)/bin/python -m pytest -n auto

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

docs: $(VENV)/.docs  ## the site, in build/site; any warning, such as a link that leads nowhere, ends it
	$(VENV)/bin/python -m sphinx -q -W --keep-going -c docs -d build/doctrees . build/site

setup: $(READY)

$(VENV)/.docs: $(READY)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	@touch $(VENV)/.docs

$(READY): pyproject.toml constraints.txt
	@echo "Preparing $(VENV) (once; PyTorch is a large download) ..."
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@# Its metadata ask for an older NumPy, which it does not need; the export for it is tested against it.
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps ddranking==0.2.0
	@touch $(READY)
