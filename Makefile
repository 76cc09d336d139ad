# Everyday jobs; `make` alone lists them. The work of set-up is in tools/dev/setup_env.sh.
#
#   PYTHON       Python 3.10-3.13 to make the environment with; default: the first found that works
#   US3L_VENV    where the environment lives; default: .venv
#   TESTS        what `make test` and `make check` take tests from; default: all, in `make test` with the demand on
#                coverage; e.g. TESTS=tests/test_slim
#   PYTEST_ARGS  more arguments to pytest, e.g. PYTEST_ARGS='-x -k width'
#   THREADS      threads of the numeric libraries in tests; default 1, so results don't depend on the machine
#   WORKERS      processes that share the tests, 2.5 GB each; default 2; 0 runs them in one, for a debugger

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo test check lint format docs clean

export PYTHON
export US3L_VENV
VENV := $(abspath $(or $(US3L_VENV),.venv))
TESTS ?= tests projects
THREADS ?= 1
WORKERS ?= 2
COV_MIN := 95
PYTEST = OMP_NUM_THREADS=$(THREADS) MKL_NUM_THREADS=$(THREADS) OPENBLAS_NUM_THREADS=$(THREADS) MPLBACKEND=Agg \
    "$(VENV)/bin/python" -m pytest $(TESTS) -n $(WORKERS) --dist loadfile --no-loadscope-reorder \
    $(PYTEST_ARGS)

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

setup: ## make or update the environment in .venv (or $US3L_VENV); nothing to do takes no time
	@bash tools/dev/setup_env.sh

demo: setup ## pretrain, probe and detect on a small scale, on the CPU
	@"$(VENV)/bin/python" tools/demo.py

test: setup ## run all tests with coverage (TESTS=..., PYTEST_ARGS=...)
	@$(PYTEST) --cov=us3l_mm --cov-report=term-missing:skip-covered \
	    $(if $(filter-out tests projects,$(TESTS))$(PYTEST_ARGS),,--cov-fail-under=$(COV_MIN))

check: lint ## lint and the fast tests, in under two minutes: before every commit
	@$(PYTEST) -m 'not slow and not gpu'

lint: setup ## check style, format and types, change nothing
	@"$(VENV)/bin/ruff" check . && "$(VENV)/bin/ruff" format --check . && "$(VENV)/bin/python" -m mypy

format: setup ## put style and format right where a tool can
	@"$(VENV)/bin/ruff" check --fix . ; "$(VENV)/bin/ruff" format .

docs: ## build the documentation into docs/_build/html
	@bash tools/dev/setup_env.sh docs
	@"$(VENV)/bin/python" -m sphinx -q -W -b html docs docs/_build/html && echo "Open docs/_build/html/index.html"

clean: ## remove caches and build output; runs, data and the environment stay
	@rm -rf build dist docs/_build htmlcov .coverage .coverage.* .mypy_cache .pytest_cache .ruff_cache *.egg-info
	@find configs docs projects tests tools us3l_mm -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
