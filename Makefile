# Kiln. `make` alone prints what there is.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run admin-key toolchains browser test test-unit test-integration test-e2e soak lint format protos docs lock bench bench-compile clean

PYTHON ?= python3
VENV := .venv/bin
INSTALL := $(PYTHON) libs/local/install.py
# Two processes share the tests, file by file, but for scenarios of a whole platform.
PYTEST := $(VENV)/python -m pytest
SHARED := $(PYTEST) -n 2 --dist loadfile
export PYTHONPATH := $(CURDIR):$(CURDIR)/libs/gen
export PATH := $(CURDIR)/$(VENV):$(PATH)

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/' | expand -t 26

run: ## install what is needed and run Kiln until Ctrl-C
	@$(INSTALL) local
	@exec $(VENV)/python -m libs.local

admin-key: ## a new key for the administrator, in KILN_HOME/admin.key
	@$(INSTALL) local
	@exec $(VENV)/python -m libs.local.admin_key

toolchains: ## add Rust by Debian's packages (needs root)
	@$(PYTHON) libs/local/toolchains.py toolchains
	@$(INSTALL) local

browser: ## add the browser of the tests by Debian's packages (needs root)
	@$(PYTHON) libs/local/toolchains.py browser

test: ## all tests but the soak
	@$(INSTALL) dev
	@$(PYTEST) tests/e2e
	@exec $(SHARED) tests/unit tests/contract tests/integration

test-unit: ## the domain with fakes, and one suite over fakes and PostgreSQL
	@$(INSTALL) dev
	@exec $(SHARED) tests/unit tests/contract

test-integration: ## one service at a time with a real PostgreSQL, compiler and sandbox
	@$(INSTALL) dev
	@exec $(SHARED) tests/integration

test-e2e: ## scenarios against the whole platform, as `make run` starts it
	@$(INSTALL) dev
	@exec $(PYTEST) tests/e2e

soak: ## fifty seeded rounds of killed and stopped processes under load (SOAK_ROUNDS, SOAK_SEED)
	@$(INSTALL) dev
	@exec $(VENV)/python -m pytest tests/soak -s --timeout=7200

lint: ## style, types, service boundaries, protos
	@$(INSTALL) dev
	@ruff check .
	@ruff format --check .
	@mypy libs services protos docs bench tests
	@lint-imports
	@buf lint libs/gen/kiln.binpb --config protos/buf.yaml

format: ## rewrite the code in the one style
	@$(INSTALL) dev
	@ruff check --fix .
	@ruff format .

protos: ## generate libs/gen from protos/, and the reference in docs/ from both
	@$(INSTALL) dev
	@python protos/generate.py
	@python docs/generate.py

docs: ## generate the reference in docs/
	@$(INSTALL) dev
	@python docs/generate.py

lock: ## pin the newest allowed versions of all dependencies
	@$(INSTALL) dev
	@python requirements/lock.py

bench: ## measure, and print ratios against references run beside (BENCH="access", "sandbox", "memory", "history", "cold", "bombs", "compiling", "executing", "serving", or several)
	@$(INSTALL) dev
	@exec $(VENV)/python -m bench $(BENCH)

bench-compile: ## the part of it that is about compiling: source to READY in every language, against its bare compiler
	@$(INSTALL) dev
	@exec $(VENV)/python -m bench compiling

clean: ## remove what was installed and generated, but no data
	rm -rf .venv .install.lock .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache services/compiler/languages/*/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
