# Two commands on a fresh machine with Python 3.11 or later: make train, make test.
PYTHON ?= python3
VENV := .venv
CODE := a3d_env agents backbone scripts tests
INSTALLED := $(VENV)/.installed

.PHONY: train test clean

train: $(INSTALLED)
	$(VENV)/bin/a3d train --preset benchmark

test: $(INSTALLED)
	$(VENV)/bin/ruff format --check $(CODE)
	$(VENV)/bin/ruff check $(CODE)
	$(VENV)/bin/mypy
	$(VENV)/bin/pytest -n 2 --dist worksteal

$(INSTALLED): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache *.egg-info
