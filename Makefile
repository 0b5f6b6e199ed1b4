# Every target sets up what it needs; a machine with python3 (3.11 or later) and make is enough.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
TIERS_LEFT_OUT := --ignore=tests/benchmarks --ignore=tests/model
LOCKING := --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate -q

.PHONY: help install lock services second-opinion test lint format demo model model-small mutants mutants-simulated chaos chaos-small chaos-services chaos-services-small bench bench-services generate clean
.DEFAULT_GOAL := help

help: ## show the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | awk -F'|' '{printf "%-21s %s\n", $$1, $$2}'

install: $(STAMP) ## make .venv and install what the lock says

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed (set PYTHON=...)" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "python's venv module is missing: install the package python3-venv, then run make again" >&2; exit 1; }
	@test -x $(BIN)/python && $(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

lock: $(STAMP) ## resolve again and write requirements.lock, and its parts for the image
	$(BIN)/python -m pip install -q uv
	$(BIN)/uv pip compile pyproject.toml --all-extras --group dev $(LOCKING) -o requirements.lock
	$(BIN)/uv pip compile pyproject.toml $(LOCKING) -c requirements.lock -o deploy/locks/run.lock
	$(BIN)/uv pip compile --group build $(LOCKING) -c requirements.lock -o deploy/locks/build.lock

services: $(STAMP) ## a Docker engine, and images of real Kafka, S3 and Kubernetes: once per machine, some 15 minutes
	$(BIN)/python -m tests.services

second-opinion: $(STAMP) ## the store on MinIO as well, encrypted buckets among it: built once per machine, some 6 minutes
	$(BIN)/python -m tests.services.minio
	$(BIN)/python -m pytest tests/integration/second_opinion.py

test: $(STAMP) ## every tier that this machine can run
	$(BIN)/python -m pytest $(TIERS_LEFT_OUT)

lint: $(STAMP) ## ruff, mypy, import-linter, generated files up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m schemas.export --check
	$(BIN)/python .ci/readme.py --check

format: $(STAMP) ## rewrite the sources in our format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: $(STAMP) ## the main job, on this machine
	$(BIN)/worker demo

model: $(STAMP) ## the exhaustive model
	$(BIN)/python -m tests.model

model-small: $(STAMP) ## its small configuration
	$(BIN)/python -m tests.model --small

mutants: $(STAMP) ## each must, broken on purpose, is noticed
	$(BIN)/python -m tests.mutants

mutants-simulated: $(STAMP) ## deliberate bugs, and how many seeds find each
	$(BIN)/python -m tests.mutants.simulated

chaos: $(STAMP) ## the crash test, in full
	$(BIN)/python -m tests.acceptance.chaos

chaos-small: $(STAMP) ## the crash test, small
	$(BIN)/python -m tests.acceptance.chaos --small

chaos-services: $(STAMP) ## the crash test on real servers, in full: some 15 minutes; SEED=... repeats a plan
	$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED))

chaos-services-small: $(STAMP) ## the crash test on real servers, small
	$(BIN)/python -m tests.chaos --small $(if $(SEED),--seed $(SEED))

bench: $(STAMP) ## measure
	$(BIN)/python -m pytest -o asyncio_debug=false -s tests/benchmarks --ignore=tests/benchmarks/services

bench-services: $(STAMP) ## measure over the real servers: scaling, pauses, requests
	$(BIN)/python -m pytest -o asyncio_debug=false -s tests/benchmarks/services

generate: $(STAMP) ## write the published schemas and the blocks of the README again
	$(BIN)/python -m schemas.export
	$(BIN)/python .ci/readme.py

clean: ## remove what was built
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache dist build
