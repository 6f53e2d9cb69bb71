# Two commands matter: `make demo` (the whole flow on rendered video) and `make test` (lint, types, tests).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_FLAGS ?=

.PHONY: install demo test test-long lint gpu-check

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,dali,tensorrt-rtx,server,shots]'
	touch $@

demo: install
	$(BIN)/tfcovr demo $(DEMO_FLAGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# Two processes: the tests wait for servers to start more than they work.
test: lint
	$(BIN)/python -m pytest -n 2 --dist loadgroup

# Runs under the machine's own python3 and packages; records go to $OUT or benchmarks/results/.
gpu-check:
	$(PYTHON) -m benchmarks.gpu.check

# Hours of seeded faults and mutants; stop it at any time, the same command goes on. LONG_FLAGS=--record writes the figures.
test-long: install
	$(BIN)/python tests/integration/indexing/faults/long_run.py --out runs/faults $(LONG_FLAGS)
