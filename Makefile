# make demo, make test: each does all of its own set-up, from a bare machine with Python 3.11 or newer.

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
PEERS := $(VENV)/.peers
GPU_PYTHON = $(if $(wildcard $(BIN)/python),$(BIN)/python,python3)

.DEFAULT_GOAL := help
.PHONY: help demo test peers bench bench-cpu bench-gpu clean

help:
	@echo 'make demo    retrieve, rerank and evaluate a real collection; writes a chart and a report into demo/'
	@echo 'make test    style, types, import directions and all tests'
	@echo 'make peers   our scores against those of other packages, which it installs'
	@echo 'make bench   our speed against every peer that installs, on this machine: twenty minutes on two cores'
	@echo 'make bench-gpu GROUP=encoders|t5|llm|pairwise|listwise|kernels   the same on a GPU'
	@echo 'make clean   remove $(VENV) and everything else that make has made here'

demo: $(INSTALLED)
	@$(BIN)/rerank demo

# every step runs, so that one call shows all that is wrong; threads that wait do not spin, for CI shares its cores
test: export OMP_WAIT_POLICY = PASSIVE
test: $(INSTALLED)
	@failed=''; \
	for step in 'ruff check .' 'ruff format --check .' 'mypy' 'lint-imports' 'pytest -q --durations=10'; do \
		echo "== $$step"; \
		$(BIN)/$$step || failed="$$failed\n  $$step"; \
	done; \
	if [ -n "$$failed" ]; then printf "\nfailed:$$failed\n" >&2; exit 1; fi; \
	echo 'all steps passed'

peers: export OMP_WAIT_POLICY = PASSIVE
peers: $(if $(filter $(VENV)/bin,$(BIN)),$(PEERS))
	@$(BIN)/pytest -q tests/peers

bench: bench-cpu

# BIN=/some/environment/bin measures with what is installed there; on a machine with a GPU nothing is installed at all
bench-cpu: $(if $(filter $(VENV)/bin,$(BIN)),$(PEERS))
	@$(BIN)/python -m benchmarks --group cpu; status=$$?; $(BIN)/python -m benchmarks table; exit $$status

bench-gpu:
	@$(GPU_PYTHON) -m benchmarks --group $(or $(GROUP),$(error say GROUP=encoders, t5, llm, pairwise, listwise or kernels))

clean:
	rm -rf $(VENV) build dist demo .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# again whenever what is installed, or in which versions, has changed
$(INSTALLED): pyproject.toml constraints.txt
	@for python in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found="$$python"; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
		echo 'Python 3.11 or newer is needed, and none was found; name one: make PYTHON=/path/to/python3' >&2; exit 1; \
	fi; \
	[ -x $(BIN)/python ] || "$$found" -m venv $(VENV)
	@echo 'installing into $(VENV): some minutes the first time'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# rank_llm insists on vllm, and its monoT5 needs nothing of it
$(PEERS): $(INSTALLED)
	@echo 'installing peers into $(VENV)'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,bench]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps rank-llm
	@touch $@
