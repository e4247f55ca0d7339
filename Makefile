# Needs python3 (3.11 or later, with venv), pip and make. Everything goes into .venv; pip's own settings (PIP_INDEX_URL ...) are obeyed.
PYTHON ?= python3
PIP_FLAGS ?=
VENV := .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help setup demo test check clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(VENV)/dev.stamp ## install Homing and the tools of its tests into .venv

demo: $(VENV)/demo.stamp ## see the whole path work: data, training, verdict, report
	$(BIN)/homing demo

test: check ## run all checks and tests
	$(BIN)/pytest -q -n 2 --dist loadfile

check: $(VENV)/dev.stamp ## run the checks alone: style, types, floors
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

clean: ## remove .venv and what tools left behind; runs stay
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/demo.stamp: pyproject.toml constraints.txt | $(BIN)/pip
	$(BIN)/pip install $(PIP_FLAGS) -c constraints.txt -e '.[demo]'
	@touch $@

$(VENV)/dev.stamp: pyproject.toml constraints.txt | $(BIN)/pip
	$(BIN)/pip install $(PIP_FLAGS) -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/demo.stamp

# pip is the last thing that venv makes: where it is, the environment is whole.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("Homing needs Python 3.11 or later; $(PYTHON) is %d.%d. Name another one: make PYTHON=python3.12 ..." % v[:2])'
	@$(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) cannot make an environment; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
