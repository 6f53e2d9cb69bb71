# Two commands matter: `make demo` (the whole flow on rendered video) and `make test` (lint, types, tests).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_FLAGS ?=

.PHONY: install demo test test-long lint gpu-check milvus-check lock sbom advisories fuzz

# Two sets of packages in one environment: what the demo and the commands need, and what the tests need besides. Every file is checked
# against its hash; then torch, of which each machine takes its own build, and the program itself.
PIP_INSTALL := $(BIN)/python -m pip install --quiet

install: $(VENV)/.installed-tests

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-base: pyproject.toml constraints.txt requirements.txt | $(BIN)/python
	$(PIP_INSTALL) --require-hashes --no-deps --requirement requirements.txt
	$(PIP_INSTALL) --constraint constraints.txt --editable '.[cpu]'
	touch $@

$(VENV)/.installed-tests: pyproject.toml constraints.txt requirements-tests.txt | $(BIN)/python
	$(PIP_INSTALL) --no-compile --require-hashes --no-deps --requirement requirements-tests.txt
	$(PIP_INSTALL) --no-compile --constraint constraints.txt --editable '.[cpu,dev,dali,tensorrt-rtx,server,shots]'
	touch $(VENV)/.installed-base $@

# Hundreds of processes of the tests import these. A few files of packages are no modules, and say so.
$(VENV)/.compiled: $(VENV)/.installed-tests
	$(BIN)/python -m compileall -qq $(VENV)/lib || true
	touch $@

demo: $(VENV)/.installed-base
	$(BIN)/tfcovr demo $(DEMO_FLAGS)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

# Three processes: the tests wait for servers to start more than they work.
test:
	$(MAKE) --jobs 2 lint $(VENV)/.compiled
	$(BIN)/python -m pytest -n 3 --dist loadgroup --durations 30

# Runs under the machine's own python3 and packages; records go to $OUT or benchmarks/results/.
gpu-check:
	$(PYTHON) -m benchmarks.gpu.check

# MILVUS_URI=http://USER:PASSWORD@HOST:19530 or a folder; IMPORT= a folder or s3:// prefix that the server reads itself. Leaves nothing.
milvus-check: $(VENV)/.installed-base
	$(BIN)/python -m benchmarks.fidelity.milvus --milvus-uri '$(MILVUS_URI)' --import-folder '$(IMPORT)'

# requirements.txt and requirements-tests.txt: what is installed, with the hashes of its files for Python 3.11 and 3.12.
lock: install
	$(BIN)/python -m benchmarks.doctor.lock

# sbom.cdx.json (CycloneDX) of what is installed; and its advisories at osv.dev, status 3 where that cannot be reached.
sbom: install
	$(BIN)/python -m benchmarks.doctor.supply_chain --do sbom

advisories: install
	$(BIN)/python -m benchmarks.doctor.supply_chain --do advisories

# Readers of hostile input, coverage-guided: FUZZ_S seconds for each.
FUZZ_S ?= 60
fuzz: install
	$(BIN)/python -m tests.support.faults.fuzz --seconds $(FUZZ_S)

# Hours of seeded faults and mutants; resumable: rerun the same command. LONG_FLAGS=--record writes the figures.
test-long: install
	LONG_TESTS=1 $(BIN)/python -m pytest -m long --timeout 3600
	$(BIN)/python -m tests.support.faults.long_run --out runs/faults $(LONG_FLAGS)
	$(BIN)/python -m tests.support.zoo.long_run --out runs/zoo $(LONG_FLAGS)
