# make up · make test · make check · make bench · make server-up; the README and CI call these.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || echo python3)
BIN := .venv/bin
INSTALLED := .venv/installed

.PHONY: setup up test test-all check bench lock sbom licences secrets server-up server-down server-test backup restore

setup: $(INSTALLED)  ## install everything into .venv

$(INSTALLED): requirements.lock requirements-setup.lock pyproject.toml
	@$(PYTHON) -c 'import sys; assert (3, 11) <= sys.version_info < (3, 13)' 2>/dev/null || \
	    { echo "setup: Python must be 3.11 or 3.12, got $$($(PYTHON) --version 2>&1). Install one, or name it: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-setup.lock
	$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

up: setup  ## run the chain once and keep the UIs and the model server up; ARGS="--once …"
	@exec $(BIN)/bincount up $(ARGS)

# A file's tests stay together, since they share what is costly to set up.
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

test: setup  ## every test but the slow ones
	$(PYTEST) -m "not slow" $(ARGS)

test-all: setup  ## every test
	$(PYTEST) $(ARGS)

# Pure rules and the checks of the whole tree: no TensorFlow, no server.
QUICK := $(wildcard tests/test_*.py) tests/mismatch tests/security bincount/mismatch bincount/config.py bincount/schema.py

check: setup  ## style, types and the fast tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q $(QUICK) --deselect tests/test_end_to_end.py

bench: setup  ## every benchmark, and docs/benchmarks.md from it; ARGS="--quick", ARGS="--only search"
	$(BIN)/python -m benchmarks $(ARGS)

lock: setup  ## pin every dependency anew, but uv itself
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-header --quiet --upgrade --output-file requirements.lock
	$(BIN)/uv pip compile pyproject.toml --extra gpu --constraint requirements.lock --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-header --quiet --upgrade --output-file requirements-gpu.lock
	# Beside requirements.lock, never against it: what is in both is the same version.
	$(BIN)/uv pip compile pyproject.toml --extra server --constraint requirements.lock --universal --python-version 3.11 \
	    --generate-hashes --no-emit-index-url --no-header --quiet --upgrade --output-file requirements-server.lock

# Tools that nothing else needs are run outside .venv, in the versions pinned here, as pip-audit is in .ci/audit.py.
CYCLONEDX := cyclonedx-bom==7.5.0
PIP_LICENSES := pip-licenses==5.5.5

sbom: setup  ## a software bill of materials (CycloneDX 1.6) of each lock, to sbom/
	@mkdir -p sbom
	@for lock in requirements*.lock; do \
	    $(BIN)/uv tool run --quiet --from $(CYCLONEDX) cyclonedx-py requirements $$lock --of JSON -o sbom/$${lock%.lock}.cdx.json && \
	    echo "sbom/$${lock%.lock}.cdx.json" || exit 1; done

licences: setup  ## the licence of every installed dependency; ARGS=--summary counts them
	@$(BIN)/uv tool run --quiet --from $(PIP_LICENSES) pip-licenses --python $(BIN)/python --order license $(ARGS)

# The stack on a server (docs/server.md). These need Docker with Compose 2 and any Python 3.11 or 3.12, but no .venv.

secrets:  ## write random secrets to .env; those it has stay
	@$(PYTHON) -m bincount.server.secrets

server-up: secrets  ## build the image, start every service, wait until all are healthy; COMPOSE_PROFILES=sample adds bins
	docker compose build --quiet airflow-init
	docker compose up --detach --wait --wait-timeout 600
	@docker compose ps --format 'table {{.Service}}\t{{.Status}}\t{{.Ports}}'
	@echo "Airflow and MLflow: user admin, passwords AIRFLOW_ADMIN_PASSWORD and MLFLOW_ADMIN_PASSWORD of .env; model server: BINCOUNT_SERVING_TOKEN"

server-down:  ## stop the services; data stay in their volumes
	COMPOSE_PROFILES=sample,objects docker compose down --remove-orphans

server-test: setup  ## the stack of docker-compose.yml on a real engine, from nothing; an hour on two cores
	$(BIN)/python -m pytest tests/server $(ARGS)

backup:  ## write databases, artifacts, workspace and secrets to backups/<time>; FOLDER=... names another place
	@$(PYTHON) -m bincount.server.backup $(FOLDER)

restore:  ## fill an empty machine's volumes from FROM=backups/...
	@$(PYTHON) -m bincount.server.backup --restore $(FROM)
