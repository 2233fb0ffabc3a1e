PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install demo test slow lint

install: $(VENV)/installed

$(VENV)/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[test,tfds]'
	touch $@

# The whole job on data that needs no download, in about two minutes.
demo: install
	$(BIN)/ood-quickstart --run_dir=runs/demo

test: install lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

# Minutes each: real data sets, whole trainings.
slow: install
	$(BIN)/python -m pytest -m slow

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
