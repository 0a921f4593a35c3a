# Two commands on a fresh machine with Python 3.11 or later: make train, make test. make test-slow runs the tests that
# make test leaves out because each takes seconds, such as whole trainings; make docs builds the site.
PYTHON ?= python3
VENV := .venv
CODE := a3d_env agents backbone docs scripts tests
INSTALLED := $(VENV)/.installed

.PHONY: train test test-slow docs clean

train: $(INSTALLED)
	$(VENV)/bin/a3d train --preset benchmark

test: $(INSTALLED)
	$(VENV)/bin/ruff format --check $(CODE)
	$(VENV)/bin/ruff check $(CODE)
	$(VENV)/bin/mypy
	$(VENV)/bin/pytest -n 2 --dist worksteal -m 'not slow'

test-slow: $(INSTALLED)
	$(VENV)/bin/pytest -n 2 --dist worksteal -m slow

docs: $(INSTALLED) $(VENV)/.docs_installed
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict

$(INSTALLED): setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --editable '.[dev]'
	touch $@

$(VENV)/.docs_installed: $(INSTALLED)
	$(VENV)/bin/pip install --editable '.[docs]'
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache *.egg-info
