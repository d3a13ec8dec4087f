# Everything a newcomer needs. `make` alone lists it.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
# Tests wait more than they compute, so three at a time keep two cores busy; each worker has a Postgres of its own.
PARALLEL ?= -n 3 --dist worksteal

.PHONY: help
help: ## List these commands
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: run
run: setup ## Set up and run the demo: Postgres, provider sandbox and service in one go (ARGS=--exit ends it when done)
	$(BIN)/outcomes demo $(ARGS)

.PHONY: test
test: setup ## Set up and run every check and the short tests, some 80 % (ARGS="-k name" narrows them)
	$(MAKE) --no-print-directory check
	$(BIN)/pytest $(PARALLEL) -m "not long" $(ARGS)

.PHONY: faults
faults: setup patroni ## The long tests: killed and cut off processes, random histories, browsers, backups, plans of queries
	$(BIN)/pytest $(PARALLEL) -m long $(ARGS)

.PHONY: test-all
test-all: ## Both, with all random histories instead of some hundred (HISTORIES=5000)
	HISTORIES=$(or $(HISTORIES),5000) $(MAKE) --no-print-directory test faults

.PHONY: patroni
patroni: .venv/patroni/.installed ## Make the environment of Patroni, which one test runs (etcd too: apt-get install etcd-server)

.venv/patroni/.installed: $(wildcard tests/guarantees/patroni.lock) | .venv/.installed
	$(PYTHON) -m venv .venv/patroni
	.venv/patroni/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

.PHONY: test-postgres
test-postgres: setup ## The tests on another Postgres: BINDIR=/usr/lib/postgresql/15/bin (Debian: apt-get install postgresql-15)
	TEST_POSTGRES_BIN=$(or $(BINDIR),/usr/lib/postgresql/15/bin) $(BIN)/pytest $(PARALLEL) $(ARGS)

.PHONY: check
check: setup ## Lint, check types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

.PHONY: format
format: setup ## Format the code and fix what the linter can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: bench
bench: setup ## Measure the write path and the reads (needs wrk: apt-get install wrk, or brew install wrk)
	$(BIN)/python -m tests.bench $(ARGS)

TARGETS := events signature files json conversations parameters
.PHONY: fuzz
fuzz: setup ## Fuzz what reads bytes from outside, guided by coverage: SECONDS=60 TARGET=events (default: all; Linux)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r tests/fuzz/requirements.lock
	@for target in $(or $(TARGET),$(TARGETS)); do \
		$(BIN)/python -m tests.fuzz $$target --seconds $(or $(SECONDS),60) || exit 1; done

.PHONY: soak
soak: setup ## Service and Postgres under load for as long as asked: MINUTES=60 RATE=500 (default 2 and 200)
	$(BIN)/python -m tests.soak --minutes $(or $(MINUTES),2) --rate $(or $(RATE),200) $(ARGS)

.PHONY: docs
docs: setup ## Write the tables of docs/ that are made from the code, and the data dictionary
	$(BIN)/python -m docs.generate

.PHONY: licences
licences: setup ## Rewrite deploy/LICENCES.md from what is installed
	$(BIN)/python -m tests.licences

.PHONY: audit
audit: setup ## Look up the locked dependencies among known vulnerabilities (asks a public service)
	$(BIN)/uv tool run pip-audit --strict --disable-pip --require-hashes --requirement requirements.lock

UPGRADE ?= --upgrade
COMPILE := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-header
.PHONY: lock
lock: setup ## Rewrite the locks of pyproject.toml, of the image and of Patroni's environment (UPGRADE= keeps the versions)
	$(COMPILE) --extra dev $(UPGRADE) --output-file requirements.lock
	$(COMPILE) --extra otel --no-annotate --constraints requirements.lock --output-file deploy/requirements.lock
	$(BIN)/uv pip compile tests/guarantees/patroni.in --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-emit-find-links --no-header $(UPGRADE) --output-file tests/guarantees/patroni.lock

.PHONY: release
release: setup ## Build the wheel and sdist of the version in pyproject.toml into dist/, with the lock of its dependencies
	$(BIN)/python -m tests.releases

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
.PHONY: image
image: ## Build the image outcomes:VERSION (needs Docker)
	docker build -f deploy/Dockerfile --build-arg VERSION=$(VERSION) \
		--build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) -t outcomes:$(VERSION) .

.PHONY: setup
setup: .venv/.installed ## Make only the environment: .venv, with `outcomes` in it

.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv || { echo "python3 -m venv failed. On Debian: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: clean
clean: ## Remove the environment and the demo's data
	rm -rf .venv .data build dist
