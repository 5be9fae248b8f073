# headstart: everything a person needs to try, test and measure.  Nothing needs make: see README.md.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test test-all coverage golden check format bench wheel clean

demo: $(READY)            ## the main job on real photographs that come by pip
	$(BIN)/headstart demo

test: $(READY)            ## the default suite on all cores: no network, a few minutes
	$(BIN)/python -m pytest -n auto

test-all: $(READY)        ## the long grid too
	$(BIN)/python -m pytest -n auto -m ""

coverage: $(READY)        ## lines and branches that the default suite runs
	$(BIN)/python -m pytest -n auto --cov --cov-report=term:skip-covered

golden: $(READY)          ## compares fixed runs with their records; UPDATE=1 rewrites, RUNS="..." chooses
	$(BIN)/python tests/golden $(if $(UPDATE),--update) $(RUNS)

check: $(READY)           ## style, types, and what may import what
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/test_house.py

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)           ## measures every aim; data by HEADSTART_BENCH_DATA
	$(BIN)/python -m benchmarks

wheel: $(READY)
	$(BIN)/python -m build --wheel

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --upgrade pip
	$(BIN)/python -m pip install --editable ".[dev]"
	touch $(READY)

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache
