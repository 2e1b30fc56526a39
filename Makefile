PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo test e2e lint clean

demo: $(VENV)/demo.installed  ## set up, draw, enhance and measure portraits, and write demo/index.html
	$(BIN)/undistill demo -o demo

test: $(VENV)/dev.installed  ## set up for development, and run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not e2e" --numprocesses auto --dist loadfile --no-loadscope-reorder

e2e: $(VENV)/dev.installed  ## run the commands of the README and the docs, and what takes minutes
	$(BIN)/python -m pytest -m e2e

lint: $(VENV)/dev.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) demo

$(VENV)/demo.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable '.[faces]'
	touch $@

$(VENV)/dev.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) --editable '.[dev]'
	touch $@
