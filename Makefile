PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: install demo docs test types quick kernels backends slow minimum lint wheel smoke \
    browser

install: $(VENV)/installed

$(VENV)/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[test,tfds,docs]'
	touch $@

# The whole job on data that needs no download, in minutes.
demo: install
	$(BIN)/ood-quickstart --run_dir=runs/demo

test: install lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations=20

# What rounding may decide, with the matrix products of several kinds of processor.
kernels: install
	$(BIN)/python tests/kernels.py

# What runs on every backend of Keras, on JAX and torch, where they are installed, as if
# TensorFlow were not. An hour or more on two cores.
backends: install
	$(BIN)/python tests/backends.py

# What most mistakes are found by, in a minute or two.
QUICK := tests/packaging_test.py tests/conventions_test.py tests/types tests/metrics \
    tests/calibration tests/losses tests/layers tests/detectors/saving_test.py \
    tests/pipelines/roles_test.py tests/pipelines/split_test.py
quick: install lint types
	$(BIN)/python -m pytest -q -n 2 --dist loadfile $(QUICK)

# Minutes each: real data sets, whole trainings.
slow: install
	$(BIN)/python -m pytest -m slow

# The npm packages for the slow tests of the page that export.browser writes.
browser:
	npm install --prefix build/browser --no-audit --no-fund \
	    onnxruntime-web@^1.30.0 @litertjs/core@^2.5.3

# All tests with the oldest versions that setup.cfg allows.
minimum:
	$(PYTHON) -m venv $(VENV)-minimum
	$(VENV)-minimum/bin/pip install --quiet --upgrade pip
	$(VENV)-minimum/bin/pip install --quiet --editable '.[test,tfds]' \
	    --constraint tests/minimum_versions.txt
	$(VENV)-minimum/bin/python -m pytest -n 2 --dist loadfile

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# The documentation; a warning is an error.
docs: install
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -b html docs build/docs

# What users install.
wheel: install
	rm -rf build/wheel build/lib
	$(BIN)/python -m build --quiet --wheel --outdir build/wheel .

# A checker sees the package as its users do: installed, not editable.
types: wheel
	rm -rf build/types
	$(BIN)/pip install --quiet --no-deps --target build/types build/wheel/*.whl
	MYPYPATH=build/types $(BIN)/python tests/types/check.py

# The wheel, installed alone and used from another folder.
smoke: wheel
	.ci/smoke build/wheel/*.whl
