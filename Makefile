# make demo    install, fetch the embedded model, index, grade a sample answer
# make test    install what tests need, run them all
# make lint    ruff and mypy --strict
# make bench   measure speed and memory on this machine
# make vectors recompute the shipped vectors after notes changed

VENV   ?= .venv
PYTHON ?= python3
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo setup test lint bench vectors clean

# pip 23 needs seven minutes for what pip 26 does in half a minute, so it is upgraded first.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25"

$(VENV)/.local: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing (about a minute the first time) ..."
	$(PIP) -e ".[local]"
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing (about a minute the first time) ..."
	$(PIP) -e ".[local,dev]"
	@touch $@ $(VENV)/.local

setup: $(VENV)/.local

demo: $(VENV)/.local
	$(BIN)/coach models pull
	$(BIN)/coach index
	$(BIN)/coach grade attention-scaling-sqrt-dk --file eval/samples/attention-scaling.txt

test: $(VENV)/.dev
	$(BIN)/python -m pytest

lint: $(VENV)/.dev
	$(BIN)/ruff check coach tests eval
	$(BIN)/ruff format --check coach tests eval
	$(BIN)/mypy
	$(BIN)/python -m coach.vectors --check
	$(BIN)/coach bank lint

bench: $(VENV)/.dev
	$(BIN)/python tests/bench.py
	$(BIN)/python tests/bench_search.py

vectors: $(VENV)/.local
	$(BIN)/python -m coach.vectors

clean:
	rm -rf $(VENV) build dist *.egg-info
