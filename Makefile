# Every command of the house; `make help` prints this list.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
SAMPLE_POSITIONS ?= 20000
SAMPLE_SEED ?= 1
TEST_PROCESSES ?= 2
KILLS ?= 24

# One native thread per process: a matrix product must not depend on the machine's core count.
export OMP_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export MKL_NUM_THREADS := 1
# Prefect keeps its database in the project, sends nothing home, and may take its time to start.
export PREFECT_HOME ?= $(CURDIR)/.prefect
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export DO_NOT_TRACK := 1
export PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS := 120

.DEFAULT_GOAL := help
.PHONY: help setup run test lint laws drill bench docs check lock

help: ## print this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(READY) ## create .venv/ from the locked requirements (only when they changed)

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Bulkhead needs Python 3.11 or later: make setup PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip check
	$(BIN)/prefect server database upgrade -y
	@$(MAKE) --no-print-directory warm
	@touch $@

# A small night compiles the kernels and lists the fonts: once, here, and not in the first real one.
.PHONY: warm
warm:
	@rm -rf build/warm && mkdir -p build/warm && ln -s ../../configs build/warm/configs
	@cd build/warm && ../../$(BIN)/bulkhead sample --out data --positions 300 --seed 1 >/dev/null 2>&1
	@cd build/warm && { ../../$(BIN)/bulkhead run configs/demo.yaml --executor plain >run.txt 2>&1 || \
	  [ $$? -eq 3 ] || { cat run.txt >&2; exit 1; }; }
	@rm -rf build/warm

run: setup ## a sample book if there is none, then the nightly flow on configs/demo.yaml
	@ls -d data/as_of=* >/dev/null 2>&1 || \
	  $(BIN)/bulkhead sample --out data --positions $(SAMPLE_POSITIONS) --seed $(SAMPLE_SEED)
	@$(BIN)/python -m flows configs/demo.yaml

test: setup ## all tests and doctests
	$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile

laws: setup ## the property tests, ten times as thorough
	$(BIN)/python -m pytest tests -m hypothesis --hypothesis-profile=thorough

drill: setup ## kill nights and workers at many random moments (minutes)
	BULKHEAD_DRILL_KILLS=$(KILLS) $(BIN)/python -m pytest tests -m drill -rs -s

lint: setup ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test ## lint and test

bench: setup ## speed and memory against the budgets, as a table
	$(BIN)/python -m benchmarks

docs: setup ## the documentation as HTML, in docs/_build/
	$(BIN)/python -m sphinx -q -W -b html docs docs/_build

lock: ## resolve the dependencies again (needs uv)
	uv pip compile pyproject.toml --universal --python-version 3.11 --extra dev --extra docs \
	  --generate-hashes --no-header --no-emit-index-url --no-emit-find-links -o requirements.lock
