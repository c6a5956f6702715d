# SPDX-License-Identifier: Apache-2.0
# Every target makes the virtual environment it needs. python3 and pip are enough; nothing is installed outside .venv.

# The first of these that is Python 3.11 to 3.13. Overridable: make test PYTHON=/path/to/python
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$python && break; \
	done)

VENV := .venv
BIN := $(VENV)/bin
# The environment is keyed on what goes into it, by content: a change of branch does not fool it, a touch does not rebuild it.
STAMP := $(VENV)/.stamp-$(shell { cat requirements-dev.lock pyproject.toml; echo '$(PYTHON)'; } | sha256sum | cut -c1-16)
# Arguments for pytest: make test TESTS='tests/unit -x'
TESTS ?=
# Options for the resolver: make lock LOCK=--upgrade
LOCK ?=

CHECKS := check-format check-lint check-types check-layers check-proto check-envoy check-wheel

.DEFAULT_GOAL := help
.PHONY: help demo test check $(CHECKS) proto bench benchtokens benchlog benchseal lock clean venv
.DELETE_ON_ERROR:

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

demo: $(STAMP) ## A real request through a real Envoy, on this machine
	$(BIN)/iap-authz demo

test: $(STAMP) ## All tests; what is skipped is listed with its reason at the end
	$(BIN)/python -m pytest $(TESTS)

check: $(CHECKS) ## Format, lint, types, layers, generated files, wheel

check-format: $(STAMP)
	$(BIN)/ruff format --check .

check-lint: $(STAMP)
	$(BIN)/ruff check .

check-types: $(STAMP)
	$(BIN)/mypy

check-layers: $(STAMP)
	$(BIN)/python -m pytest -q tests/repo/test_layers.py

check-proto: $(STAMP)
	$(BIN)/python tools/generate_protos.py --check

check-envoy: $(STAMP)
	$(BIN)/iap-authz envoy render --check envoy/

check-wheel: $(STAMP)
	$(BIN)/python -m hatchling build -t wheel -d dist

proto: $(STAMP) ## Generate iap_authz/_pb from proto/
	$(BIN)/python tools/generate_protos.py

bench: $(STAMP) ## Measure; prints machine, ratios and raw output
	$(BIN)/python -m bench

benchtokens: $(STAMP) ## Measure tokens, cold and cached, by algorithm
	$(BIN)/python -m bench.tokens

benchlog: $(STAMP) ## Measure the audit log
	$(BIN)/python -m bench.log

benchseal: $(STAMP) ## Measure sealing, opening and erasing
	$(BIN)/python -m bench.seal --records 1000000 --subject-records 100000

# The second lock holds the first: what is tested is what is shipped.
COMPILE = $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' $(LOCK)

lock: $(STAMP) ## Resolve pyproject.toml into the lock files; LOCK=--upgrade for newer versions
	$(COMPILE) --output-file requirements.lock
	$(COMPILE) --extra demo --extra dev --constraint requirements.lock --output-file requirements-dev.lock

clean: ## Remove what make has made
	rm -rf $(VENV) build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

venv: $(STAMP)

$(STAMP): requirements-dev.lock pyproject.toml
	@$(or $(PYTHON),false) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null || { \
		echo 'iap-authz needs Python 3.11, 3.12 or 3.13, got $(or $(shell $(PYTHON) --version 2>&1),nothing): name one with PYTHON=' >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --no-deps --no-build-isolation -e .
	@touch $@
