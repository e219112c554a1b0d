# Every target does its own set-up: a machine with make and Python 3.11 or later is enough.

PYTHON ?= python3

.DEFAULT_GOAL := help
SHELL := /bin/sh
BIN := .venv/bin
READY := .venv/.ready

# Ours is the only environment these commands may touch, whatever the caller has activated.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME
export UV_PROJECT_ENVIRONMENT := .venv

.PHONY: help setup demo test test-servers lint format bench torture clean
.PHONY: check-format check-style check-types check-imports check-tests

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

setup: $(READY) ## Make .venv with the locked versions; .venv/bin/taskengine is the program

demo: $(READY) ## Run the example in examples/demo
	@$(BIN)/python -m examples.demo

test: check-format check-style check-types check-imports check-tests ## Check everything: format, style, types, imports, tests

# ONLY=tests/conformance: a part of it.
test-servers: $(READY) ## What also runs on PostgreSQL and MariaDB; tests/databases/servers.py says how they are found
	@$(BIN)/pytest -q -m "servers and not torture" -n auto --maxprocesses 4 --dist worksteal $(ONLY)

lint: check-format check-style check-types check-imports ## The same without the tests

format: $(READY) ## Rewrite the code in the house format
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format .

bench: $(READY) ## Run the benchmarks
	@$(BIN)/python -m benchmarks

torture: $(READY) ## Run the long tests and write docs/torture.md: many seeds, kills, big graphs
	@$(BIN)/python tests/torture/report.py

clean: ## Remove .venv, caches and built files
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# One line when a check is content (the tool's own last line), everything it said when it is not.
define check
@said=$$(mktemp) && trap 'rm -f "$$said"' EXIT && \
if $(2) >"$$said" 2>&1; then \
    printf '%-8s %s\n' '$(1)' "$$(sed -n '/./h; $${g;p;}' "$$said")"; \
else \
    printf '%-8s %s\n' '$(1)' 'FAILED: $(2)'; cat "$$said"; exit 1; \
fi
endef

check-format: $(READY)
	$(call check,format,$(BIN)/ruff format --check .)

check-style: $(READY)
	$(call check,style,$(BIN)/ruff check .)

check-types: $(READY)
	$(call check,types,$(BIN)/mypy)

check-imports: $(READY)
	$(call check,imports,$(BIN)/lint-imports --no-logo)

# Not through `check`: who waits for a minute wants to see the dots.
check-tests: $(READY)
	@$(BIN)/pytest -q -n auto --maxprocesses 4 --dist worksteal

# The stamp is older than what it was made from: install again. version.py is in the list because the version
# is part of the installed metadata.
$(READY): pyproject.toml uv.lock taskengine/version.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "taskengine needs Python 3.11 or later, and '$(PYTHON)' is not: $$($(PYTHON) --version 2>&1)."; \
	    echo "Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo 'Installing the locked packages into .venv'
	@PYTHON='$(PYTHON)' .ci/install
	@touch $@
