# `make demo` and `make test` set up what they need: a virtual environment in .venv, from pyproject.toml and
# constraints.txt, with Python 3.11 or newer. Say PYTHON=... to choose the interpreter.

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
READY := .venv/ready

BENCH := .venv-bench/bin/python
BENCH_READY := .venv-bench/ready
DATA ?= data
DEVICE ?= cpu
MINUTES ?= 60

# a browser of the system's, in which the report is tried; as root it is installed where it is missing
BROWSER := $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)

# curvlinops, which the tests hold curvature against, without what it lists beside it: torchvision may not fit this torch
REFERENCE := curvlinops-for-pytorch backpack-for-pytorch einconv einops linear_operator opt_einsum unfoldNd

# the browser is fetched while the packages are
MAKEFLAGS += --jobs=2

.PHONY: demo test check docs format bench long clean browser

demo: $(READY)  ## the article's experiment in small: two decay multipliers on real 8x8 digits, a few minutes
	$(BIN)/lrlab study studies/demo.toml

test: check browser  ## lint, types, unit and end-to-end tests
	$(BIN)/python -m pytest -n 2 --dist worksteal

check: $(READY)  ## lint and types alone
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

docs: $(READY)  ## the pages as a site, in docs/_build/html
	$(BIN)/sphinx-build -q -W --keep-going -n docs docs/_build/html
	@echo docs/_build/html/index.html

browser:  ## a Chromium for the tests of the report, where there is none and this is root; without one they are skipped
ifeq ($(BROWSER),)
	-test "$$(id -u)" = 0 && apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null
endif

format: $(READY)  ## put the code into shape
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(BENCH_READY)  ## every benchmark in turn, on CIFAR-10 in DATA=data, DEVICE=cpu: hours; benchmarks/README.md
	$(BENCH) benchmarks/startup.py
	$(BENCH) benchmarks/schedulers.py
	$(BENCH) benchmarks/comparison.py
	$(BENCH) benchmarks/aa.py
	$(BENCH) benchmarks/studies.py
	$(BENCH) benchmarks/report.py
	$(BENCH) benchmarks/ranks.py --data-dir $(DATA)
	$(BENCH) benchmarks/scale.py
	$(BENCH) benchmarks/kills.py
	$(BENCH) benchmarks/checkpointing.py
	$(BENCH) benchmarks/telemetry.py --data-dir $(DATA) --device $(DEVICE)
	$(BENCH) benchmarks/layer_probes.py --data-dir $(DATA) --device $(DEVICE)
	$(BENCH) benchmarks/curvature.py --data-dir $(DATA) --device $(DEVICE)
	$(BENCH) benchmarks/throughput.py --data-dir $(DATA) --device $(DEVICE)
	LRLAB_DATA_DIR=$(DATA) .venv-bench/bin/lrlab study studies/precision.toml
	$(BENCH) benchmarks/precision.py runs/precision
	$(BENCH) benchmarks/time_to_accuracy.py studies/article-full.toml studies/fast.toml --max-minutes $(MINUTES) --data-dir $(DATA)

long: $(READY)  ## faults of ranks and of a cluster's nodes, many times: twenty minutes
	$(BIN)/python benchmarks/rank_faults.py
	$(BIN)/python benchmarks/cluster.py --seeds 8 --removals 3

clean:  ## delete the virtual environments and the caches, not the runs
	rm -rf .venv .venv-bench .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "lrlab needs Python 3.11 or newer: install it, or say make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install --quiet --no-compile --constraint constraints.txt --no-deps $(REFERENCE)
	$(BIN)/python -m compileall -qq -j 0 .venv/lib || true  # on all processors, as pip does not; some hold files for other Pythons
	touch $(READY)

$(BENCH_READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "lrlab needs Python 3.11 or newer: install it, or say make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv .venv-bench
	$(BENCH) -m pip install --quiet --constraint constraints.txt --editable '.[lightning,ray,transformers]'
	touch $(BENCH_READY)
