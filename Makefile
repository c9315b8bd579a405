# make demo and make test need Python 3.11 or newer and nothing else; the rest builds on the same environment.
PYTHON ?= python3
VENV ?= .venv
RATIO ?= 0.4
METHOD ?= aire

BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo examples report test test-slow mutants coverage lint types docs gallery shots matrix fuzz bench bench-gpu evidence \
	evidence-small tables wheel clean

demo: $(VENV)/.demo
	$(BIN)/python examples/demo.py --ratio $(RATIO) --method $(METHOD)

examples: demo $(VENV)/.test
	$(BIN)/python examples/train_s5_digits.py --epochs 1 --out $(VENV)/one_epoch
	$(BIN)/python examples/streaming.py

# An HTML report of the shipped S5 classifier, in examples/output.
report: $(VENV)/.test
	$(BIN)/python examples/report_s5_digits.py

test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 --dist worksteal

test-slow: $(VENV)/.test
	$(BIN)/python -m pytest -m slow

# Every mutant of the CUDA kernels is found; records the hash of the sources that `make test` looks at.
mutants: $(VENV)/.test
	PYTHONPATH=tests:examples $(BIN)/python tests/engines/cuda/test_cuda_mutants.py

coverage: $(VENV)/.test
	$(BIN)/python -m pytest --cov=ssmreduce --cov-report=term --cov-fail-under=90

lint: $(VENV)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.lint
	$(BIN)/mypy

docs: $(VENV)/.docs
	$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	$(BIN)/python docs/links.py docs/_build/html

# Runs every example of the gallery and keeps the results in docs/auto_examples; `make docs` runs what changed since.
gallery: $(VENV)/.gallery
	SSMREDUCE_GALLERY=1 MPLBACKEND=Agg $(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html

# Screenshots of the built pages in headless Chromium: 1,400 and 400 px wide, light and dark, into build/shots.
shots: docs $(VENV)/.shots
	$(BIN)/python docs/shots.py docs/_build/html build/shots

# The lowest and the newest NumPy, SciPy and Numba without extras, each in an environment of its own.
matrix:
	.ci/matrix build/matrix $(PYTHON)

# The wheel, checked, and the examples of its docstrings run in a fresh environment outside the checkout.
wheel: $(VENV)/.wheel
	rm -rf build/wheel
	$(BIN)/python -m build --outdir build/wheel .
	$(BIN)/python -m twine check --strict build/wheel/*
	outside=$$(mktemp -d) && trap 'rm -rf "$$outside"' EXIT && \
	cp build/wheel/*.whl constraints.txt "$$outside" && cd "$$outside" && $(PYTHON) -m venv venv && \
	venv/bin/python -m pip install --quiet --constraint constraints.txt pytest \
		"$$(ls ./*.whl)[torch,jax,equinox,transformers,plot,control]" && \
	venv/bin/python -m pytest -p no:cacheprovider --pyargs ssmreduce --doctest-modules --ignore-glob='*/_cupy*.py' \
		-o doctest_optionflags=NORMALIZE_WHITESPACE

fuzz: $(VENV)/.test
	PYTHONPATH=tests $(BIN)/python -m fuzz > benchmarks/results/fuzz.txt; code=$$?; cat benchmarks/results/fuzz.txt; exit $$code

bench: $(VENV)/.test
	$(BIN)/python benchmarks/bench_journey.py
	$(BIN)/python benchmarks/bench_norms.py
	$(BIN)/python benchmarks/bench_first_call.py
	$(BIN)/python benchmarks/bench_reduction.py
	$(BIN)/python benchmarks/bench_calibrated.py
	$(BIN)/python benchmarks/bench_scan.py
	$(BIN)/python benchmarks/bench_files.py
	$(BIN)/python -m benchmarks.speed

bench-gpu: $(VENV)/.test
	$(BIN)/python benchmarks/bench_gpu.py

# From the shipped checkpoints of three tasks to tables and figures in build/evidence, in minutes on two cores.
evidence-small: $(VENV)/.evidence
	$(BIN)/python -m benchmarks.evidence small --workers 2

# Everything that is not there yet, training included: hours. It can be stopped and goes on where it was.
evidence: $(VENV)/.evidence
	$(BIN)/python -m benchmarks.evidence train
	$(BIN)/python -m benchmarks.evidence run --workers 2
	$(BIN)/python -m benchmarks.evidence tables

tables: $(VENV)/.evidence
	$(BIN)/python -m benchmarks.evidence tables
	$(BIN)/python docs/results.py
	$(BIN)/python docs/figures.py

clean:
	rm -rf $(VENV) docs/_build docs/api/generated build *.egg-info

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: $(BIN)/python setup.cfg pyproject.toml constraints.txt
	$(PIP) --editable '.[plot]'
	touch $@

$(VENV)/.test: $(BIN)/python setup.cfg pyproject.toml constraints.txt
	$(PIP) --editable '.[test]'
	touch $@

$(VENV)/.lint: $(BIN)/python setup.cfg pyproject.toml constraints.txt
	$(PIP) --editable '.[lint]'
	touch $@

$(VENV)/.docs: $(BIN)/python setup.cfg pyproject.toml constraints.txt
	$(PIP) --editable '.[docs]'
	touch $@

$(VENV)/.gallery: $(BIN)/python setup.cfg pyproject.toml constraints.txt
	$(PIP) --editable '.[gallery]'
	touch $@

$(VENV)/.shots: $(BIN)/python setup.cfg pyproject.toml constraints.txt
	$(PIP) --editable '.[shots]'
	touch $@

$(VENV)/.wheel: $(BIN)/python constraints.txt
	$(PIP) build twine
	touch $@

$(VENV)/.evidence: $(BIN)/python setup.cfg pyproject.toml constraints.txt
	$(PIP) --editable '.[evidence]'
	touch $@
