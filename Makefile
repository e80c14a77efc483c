# Two commands for a newcomer: `make run` shows the main job, `make test` runs the tests. Both start from a fresh clone.
PYTHON ?= python3
VENV   ?= .venv
PROCESSES ?= 2
BIN     = $(VENV)/bin
PIP     = $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# The public doors once more as users call them, without the check of shape annotations that all other tests run under.
USERS   = $(BIN)/python -m pytest -o addopts= tests/as_users

# One thread: the tests are many small products, in which threads mostly wait for each other.
test slow: export OMP_NUM_THREADS = 1
test slow: export MKL_NUM_THREADS = 1
test slow: export OPENBLAS_NUM_THREADS = 1

.PHONY: run test slow gpu lint docs clean

run: $(VENV)/.installed
	$(BIN)/python cli.py lazy-vs-meanfield --alpha 100

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m "not slow and not gpu"
	$(USERS)

# All of them: an hour of two cores or less, in two processes, each of which takes whole files.
slow: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m "not gpu" $(if $(filter-out 1,$(PROCESSES)),-n $(PROCESSES) --dist loadfile)
	$(USERS)

# On a machine with a CUDA card: does everything run there, is it right, how fast? Eight minutes at most.
gpu: $(VENV)/.installed-test
	$(BIN)/python -m benchmarks.first_minute --device cuda --out runs/first-minute

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

docs: $(VENV)/.installed-dev
	$(PIP) -e '.[docs]'
	$(BIN)/python -m sphinx --fail-on-warning --keep-going docs build/docs

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), f"regimes needs Python 3.11 or newer, this is {sys.version.split()[0]}: make run PYTHON=python3.11"'
	$(PYTHON) -m venv $(VENV)

# torch first: the pinned build, before any other package can ask for another one.
$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) torch
	$(PIP) -e .
	touch $@

# neural-tangents without its dependencies: they pull in TensorFlow, which nothing here uses.
$(VENV)/.installed-test: $(VENV)/.installed
	$(PIP) -e '.[test,infinite]'
	$(PIP) --no-deps neural-tangents==0.6.5
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-test
	$(PIP) -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache
