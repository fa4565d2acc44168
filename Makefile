# Everything by a short command: `make demo`, `make test`, `make lint`, `make bench`. `make help` lists them.
#
# Nothing is installed outside of this directory but Chromium, and that only where it is missing and may be installed.
# What has been done is remembered by stamp files inside what they vouch for (.venv, web/node_modules), so removing a
# folder is enough to have it made again, and a second run starts at once.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
MODULES := web/node_modules
CONTRACT := tests/contract/node_modules
PEERS := benchmarks/peers/node_modules
CENTRIFUGO := v6.9.1
PAGE := python/tickcast/_web/index.html
ARGS ?=
SOAK ?= 10m

RUST := $(shell find crates proto -name target -prune -o -type f \( -name '*.rs' -o -name '*.toml' -o -name '*.proto' \) -print 2>/dev/null)
WEB := $(shell find web -name node_modules -prune -o -type f -not -name '*.tsbuildinfo' -print 2>/dev/null)

.PHONY: help demo test test-rust test-web test-python lint fix bench bench-core peers soak build dashboard setup chromium kafka clean

help: ## show these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1\t\2/' | expand -t 14

demo: setup ## the main job, live: NATS, example rules, dashboard (ARGS="--rate 5000 --duration 1m")
	@$(BIN)/tickcast demo $(ARGS)

test: test-rust test-web test-python ## all tests: Rust, dashboard, Python; pytest comes last

# The tests against a real nats-server skip themselves where there is none: here there always is one, of the extra.
test-rust: $(VENV)/.extension
	@test -x $(BIN)/nats-server
	PYO3_PYTHON=$(CURDIR)/$(BIN)/python TICKCAST_NATS_SERVER=$(CURDIR)/$(BIN)/nats-server cargo test --workspace --locked

test-web: $(MODULES)/.installed
	npm --prefix web test

test-python: setup chromium kafka $(CONTRACT)/.installed ## Python tests only (ARGS="-k window")
	@$(BIN)/python -m pytest $(ARGS)

lint: setup $(CONTRACT)/.installed ## formatting, lints and types of all three languages; the contract's too
	cargo fmt --all --check
	PYO3_PYTHON=$(CURDIR)/$(BIN)/python cargo clippy --workspace --all-targets --locked -- -D warnings
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/stubtest tickcast._core --allowlist scripts/stubtest.allow --ignore-unused-allowlist
	npm --prefix web run check
	$(CONTRACT)/.bin/buf format --diff --exit-code proto
	$(CONTRACT)/.bin/buf lint proto
	$(CONTRACT)/.bin/buf breaking proto --against tests/contract/released.json
	$(BIN)/python scripts/contract.py --check

fix: setup $(CONTRACT)/.installed ## format, and mend what the linters can mend
	cargo fmt --all
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	npm --prefix web run fix
	$(CONTRACT)/.bin/buf format --write proto
	$(BIN)/python scripts/contract.py

bench: setup peers ## tickcast beside its peers, 12 minutes: benchmarks/results/compare.md (ARGS=--full: two hours)
	@echo 'measuring one server after the other, about 12 minutes; leave the machine alone meanwhile' >&2
	@$(BIN)/python benchmarks/compare.py --write $(ARGS)
	@ls benchmarks/*.py | sed 's|^|more: $(BIN)/python |; s|$$| --help|' | grep -v 'contenders\|compare\|naive'
	@echo 'more: make bench-core'

bench-core: setup ## ticks/s of decode, VWAP, encode and tape (criterion)
	PYO3_PYTHON=$(CURDIR)/$(BIN)/python cargo bench --workspace $(ARGS)

peers: $(PEERS)/.installed ## what `make bench` measures against, as far as it can be had

soak: setup kafka ## the main job for SOAK=10m, then a million ticks through Kafka and JetStream with kills all the time
	@$(BIN)/tickcast demo --no-open --duration $(SOAK) $(ARGS)
	@TICKCAST_TEST_LOG_TICKS=1000000 TICKCAST_TEST_LOG_SECONDS=200 $(BIN)/python -m pytest \
	    tests/integration/test_kafka_kills.py tests/integration/test_jetstream_sink.py

build: $(VENV)/.tools $(PAGE) ## the wheel, with the dashboard inside, in dist/
	$(BIN)/maturin build --release --locked --out dist

dashboard: $(PAGE) ## build the dashboard into the Python package

setup: $(VENV)/.extension $(PAGE) ## everything that running needs, in .venv

chromium: ## find or install a headless browser for the tests
	@scripts/chromium.sh > /dev/null

kafka: $(VENV)/.python ## bring the jars of a Kafka broker for the tests, where there are Java and Maven
	@$(BIN)/python scripts/kafka_broker.py > /dev/null || true

clean: ## remove everything that was built or installed here
	rm -rf $(VENV) target dist .cache web/node_modules $(CONTRACT) $(PEERS) web/dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find python/tickcast/_web -mindepth 1 -not -name .gitkeep -delete
	rm -f python/tickcast/_core*.so
	find python tests -name __pycache__ -prune -exec rm -rf {} +

# The virtual environment of a Python that is new enough.
$(VENV)/.python: scripts/tools.sh
	@scripts/tools.sh
	@"$$(scripts/tools.sh python)" -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@touch $@

# Test and build tools: the group `dev` of pyproject.toml.
$(VENV)/.tools: $(VENV)/.python pyproject.toml
	$(BIN)/python -m pip install --quiet --group dev
	@touch $@

# The extension, in place, with tickcast's own dependencies and every extra.
$(VENV)/.extension: $(VENV)/.tools pyproject.toml Cargo.toml Cargo.lock $(RUST)
	$(BIN)/maturin develop --release --locked --extras "$$($(BIN)/python scripts/extras.py)"
	@touch $@

$(MODULES)/.installed: web/package.json web/package-lock.json
	@scripts/tools.sh
	npm --prefix web ci --no-audit --no-fund
	@touch $@

# buf, and the packages of a stock client in Node.js.
$(CONTRACT)/.installed: tests/contract/package.json tests/contract/package-lock.json
	@scripts/tools.sh
	npm --prefix tests/contract ci --no-audit --no-fund
	@touch $@

# Starlette and what draws the plots, Fastify, Centrifugo; what can't be had is left out of the results, which say so.
$(PEERS)/.installed: $(VENV)/.tools benchmarks/peers/package.json benchmarks/peers/package-lock.json
	$(BIN)/python -m pip install --quiet --group peers
	npm --prefix benchmarks/peers ci --no-audit --no-fund
	@GOBIN=$(CURDIR)/.cache/peers/bin go install github.com/centrifugal/centrifugo/v6@$(CENTRIFUGO) \
	    || echo 'tickcast: Centrifugo cannot be installed here (it needs Go); make bench does without' >&2
	@touch $@

$(PAGE): $(MODULES)/.installed $(WEB)
	npm --prefix web run build
	@touch $@
