# Each target makes .venv when it is missing or older than what it is made from.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo test slow check docs bench bench-losses bench-recommenders clean

demo: $(READY)
	$(BIN)/anyview demo --overwrite

test: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile

slow: $(READY)
	$(BIN)/python -m pytest -m slow

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	$(BIN)/sphinx-build --fail-on-warning --quiet docs docs/_build/html
	@echo "docs/_build/html/index.html"

bench: $(READY)
	$(BIN)/python benchmarks/graphmae.py --threads 1 2
	$(BIN)/python benchmarks/frames.py --threads 1 2

bench-losses: .venv-losses/.ready
	.venv-losses/bin/python benchmarks/losses.py --threads 2

bench-recommenders: .venv-recommenders/.ready
	.venv-recommenders/bin/python benchmarks/recommenders.py --threads 1 2

clean:
	rm -rf $(VENV) .venv-losses .venv-recommenders docs/_build .mypy_cache .pytest_cache .ruff_cache

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt pip hatchling
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $(READY)

# The libraries that ours is compared with would bring other versions of much else, so each has an environment of its own.
.venv-%/.ready: benchmarks/%-requirements.txt pyproject.toml constraints.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --upgrade --constraint constraints.txt pip hatchling
	$(@D)/bin/python -m pip install --quiet --constraint constraints.txt --editable ".[recommenders]"
	$(@D)/bin/python -m pip install --quiet --no-deps --requirement $<
	touch $@
