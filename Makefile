# Needs Python 3.11 to 3.13 and make; uses uv where it is there.
.DELETE_ON_ERROR:
.PHONY: sweep test test-long test-cluster lint docs bench bench-gpu dist

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export RAY_USAGE_STATS_ENABLED := 0

sweep: $(VENV)/installed
	$(BIN)/python sweep.py

# Three processes, also on two cores: much of their time they wait for Ray.
test: $(VENV)/installed
	OMP_NUM_THREADS=1 RAY_worker_niceness=0 $(BIN)/python -m pytest -q -n 3 --dist loadfile --no-loadscope-reorder -m "not cluster and not long"

# Tests that take a minute or more, of mechanisms that shorter tests cover in parts.
test-long: $(VENV)/installed
	OMP_NUM_THREADS=1 RAY_worker_niceness=0 $(BIN)/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile -m long

# Hosts of their own on this machine: needs root, iproute2, openssh-server and rsync.
test-cluster: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile -m cluster tests/cluster

lint: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint docker/Dockerfile
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec docker/compose.yaml docker/compose.gpu.yaml

# The pages of docs/, with the reference that is generated from the code, as HTML in docs/_build. No network is needed.
docs: $(VENV)/installed
	$(BIN)/python -m sphinx -W --keep-going -n -E -q docs docs/_build
	@echo "Open docs/_build/index.html"

bench: $(VENV)/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.throughput
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.shapes_hardness
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.bookkeeping
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.faults
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.attacks --no-defense

# Runs from trainers/ alone: PYTHON may be any that has torch and sees a GPU.
bench-gpu:
	$(PYTHON) -m benchmarks.card --out runs/card

# What hosts of a cluster install: the code as it is, the lock, and how to.
dist: $(VENV)/installed
	rm -rf dist
	$(BIN)/python -m hatchling build -t wheel -d dist
	cp requirements-hosts.lock cluster-setup.sh dist

# Every install is from the lock, checked by hash; bytecode is compiled, since each worker would do it again otherwise.
$(VENV)/installed: requirements.lock
	rm -rf $(VENV)
	@if command -v uv >/dev/null; then set -ex; \
	  uv venv -q --python $(PYTHON) $(VENV); \
	  uv pip install -q --python $(BIN)/python --compile-bytecode --require-hashes -r requirements.lock; \
	  uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .; \
	else set -ex; \
	  $(PYTHON) -m venv $(VENV); \
	  $(BIN)/python -m pip install -q --require-hashes -r requirements.lock; \
	  $(BIN)/python -m pip install -q --no-deps --no-build-isolation -e .; \
	fi
	$(BIN)/python -m compileall -q sweeper trainers search_spaces benchmarks
	touch $@
