# make demo    the sanity check on a small language model, from nothing to the table
# make test    the tests, on every core
# make fast    those that take under two minutes in all: no processes, no browser, no training by command
# make docs    the documentation as a site that needs no network: docs/_build/html/index.html; the notebooks are run
# make check   what CI looks at beside the tests: lint, format, types
# make clean   remove caches and build products; the environment in .venv and the runs stay

PYTHON ?= python3
BIN := .venv/bin

# Touched after an install, so that the environment is made anew only when pyproject.toml has changed.
INSTALLED := .venv/.installed

.PHONY: demo test fast docs check clean

demo: $(INSTALLED)
	$(BIN)/sae fit --config configs/experiment/sanity_pocket_lm.yaml

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadfile

fast: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadfile -m "not slow"

docs: $(INSTALLED)
	$(BIN)/python -c "import furo, myst_nb" || $(BIN)/python -m pip install --quiet --disable-pip-version-check '.[docs]'
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -b html docs docs/_build/html

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(INSTALLED): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $@

clean:
	rm -rf build docs/_build docs/reference/generated *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
