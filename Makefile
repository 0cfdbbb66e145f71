# Everything a developer or a first-time user runs. Each target does its own set-up: a virtual environment in .venv from
# the lock files, and for the real broker Java, Maven and Kafka's jars (deploy/kafka).
#
#   make PYTHON=/path/to/python3.12 …   choose the interpreter
#   make kafka KAFKA_PORT=19092         choose the port

SHELL := bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
PACKAGES := streams detectors schemas
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/stillwatch
ARGS ?=
IMAGE ?= localhost/stillwatch:dev
# Files of tests side by side, a process for each core and no more than four: each has a Kafka of its own. Most of them
# wait most of the time. ARGS=-n0 runs them in one process, for a debugger.
SIDE_BY_SIDE := -n logical --maxprocesses 4 --dist loadfile
PYTHON ?=

.PHONY: help
help: ## Say what each target does
	@echo "stillwatch: tells an AI lab, while it happens, that somebody copies its model through the API"
	@echo
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "ARGS goes to the command behind demo, test*, chaos, bench*, redteam, soak and run: make test-fast ARGS='-k alert'"

# --- Run it

.PHONY: demo
demo: runtime ## Watch it find planted extraction accounts: embedded broker, nothing else to install
	@$(BIN)/stillwatch demo $(ARGS)

.PHONY: run
run: runtime ## Run any command of stillwatch: make run ARGS="replay events.jsonl --out alerts.jsonl"
	@$(BIN)/stillwatch $(ARGS)

.PHONY: kafka
kafka: ## Start a real Apache Kafka on this machine (127.0.0.1:9092, or KAFKA_PORT) and wait until it serves
	@deploy/kafka/kafka.sh start

.PHONY: kafka-stop
kafka-stop: ## Stop it; its data stays
	@deploy/kafka/kafka.sh stop

.PHONY: kafka-status
kafka-status: ## Say whether it serves
	@deploy/kafka/kafka.sh status

.PHONY: kafka-clean
kafka-clean: ## Stop it and delete its data
	@deploy/kafka/kafka.sh clean

# --- Test it

.PHONY: test
test: dev broker connect-jars ## Run every test: unit, property, doctests, integration on a real Kafka, the commands of the README
	@$(BIN)/pytest $(SIDE_BY_SIDE) $(ARGS)

.PHONY: test-fast
test-fast: dev ## Run the tests that need no broker: unit, property, doctests
	@$(BIN)/pytest $(SIDE_BY_SIDE) $(PACKAGES) tests/unit tests/property $(ARGS)

.PHONY: test-integration
test-integration: dev broker connect-jars ## Run the tests on a real Kafka (they start their own, on a free port)
	@$(BIN)/pytest $(SIDE_BY_SIDE) tests/integration $(ARGS)

.PHONY: test-e2e
test-e2e: dev broker ## Run the commands of the README as a user does
	@$(BIN)/pytest $(SIDE_BY_SIDE) tests/e2e $(ARGS)

.PHONY: connect-test
connect-test: dev broker connect-jars ## Run deploy/connect with the products' own Kafka connectors: make connect-test CONNECTORS=folder (4 min)
	@test -d "$(CONNECTORS)" || { echo "make connect-test needs CONNECTORS: a folder like a Connect worker's plugin.path, with the connectors of deploy/SUBSCRIBING.md unpacked in it" >&2; exit 2; }
	@STILLWATCH_CONNECTORS="$(CONNECTORS)" $(BIN)/pytest tests/integration/connect $(ARGS)

.PHONY: cluster-test
cluster-test: dev ## Install, upgrade, roll back, drain the chart on a real Kubernetes control plane with fake nodes (root)
	@$(BIN)/python -m tests.cluster.tools control-plane
	@tests/cluster/private.sh $(BIN)/pytest --log-cli-level=INFO tests/cluster/test_control_plane.py $(ARGS)

.PHONY: cluster-e2e
cluster-e2e: dev broker ## Disturb the chart's pods on real kubelets and a real Kafka, and follow the runbooks; nothing may be lost (root)
	@deploy/image.sh tools && deploy/image.sh base && deploy/image.sh build
	@$(BIN)/python -m tests.cluster.tools node
	@tests/cluster/private.sh $(BIN)/pytest --log-cli-level=INFO tests/cluster/test_pods.py tests/cluster/test_runbooks.py $(ARGS)

# A checkout holds one .venv; the other versions have theirs in the cache.
.PHONY: test-pythons
test-pythons: dev ## Run the fast tests on the Pythons from 3.11 to 3.13 that this machine has beside that of .venv
	@show='import sys; print("%d.%d" % sys.version_info[:2])'; own=$$($(BIN)/python -c "$$show"); \
	failed=; for python in $$(deploy/venv.sh all); do \
		version=$$($$python -c "$$show"); \
		if [ "$$version" = "$$own" ]; then continue; fi; \
		echo "Fast tests on Python $$version"; \
		deploy/venv.sh make $(CACHE)/venv-$$version dev $$python && \
		$(CACHE)/venv-$$version/bin/pytest -q -p no:cacheprovider $(SIDE_BY_SIDE) $(PACKAGES) tests/unit tests/property \
			$(ARGS) || \
		failed="$$failed $$version"; \
	done; \
	if [ -n "$$failed" ]; then echo "Failed on Python$$failed" >&2; exit 1; fi

# Uncompiled, an event takes milliseconds: these are the tests that need few of them, five minutes of one core.
.PHONY: coverage
coverage: dev ## Measure how much of detectors and schemas tests reach, kernels uncompiled; fails below 95 %
	@NUMBA_DISABLE_JIT=1 $(BIN)/pytest -q -p no:cacheprovider --disable-warnings --cov=detectors --cov=schemas --cov-branch \
		--cov-report=term-missing:skip-covered --cov-fail-under=95 \
		detectors schemas tests/unit/detectors tests/unit/schemas tests/property/test_decoding.py \
		$(addprefix tests/property/detectors/test_,arithmetic.py calibration.py memory.py state.py) \
		--deselect tests/unit/detectors/test_embedding.py::test_memory_of_words_is_bounded_and_keeps_neither_numbers_nor_long_words \
		$(ARGS)

.PHONY: lint
lint: dev ## Check style, formatting and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy $(PACKAGES)

.PHONY: fmt
fmt: dev ## Format the code and repair what ruff can repair
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

.PHONY: chaos
chaos: dev broker ## Kill, suspend and cut off workers and brokers; every record must come out right (ARGS=--list, --ci)
	@$(BIN)/python -m tests.chaos $(ARGS)

.PHONY: bench
bench: dev ## Measure requests a second on one core by stage, and bytes of state an account
	@$(BIN)/python -m tests.bench.speed $(ARGS)

.PHONY: bench-service
bench-service: dev broker ## Measure a worker on a real Kafka beside stock Faust: speed, memory, starts (ARGS="--out FILE.md"; 8 min)
	@$(BIN)/python -m tests.bench.service $(ARGS)

.PHONY: bench-scaling
bench-scaling: dev broker ## Measure what workers of one group score together, by workers and partitions (ARGS="--out FILE.md"; 5 min)
	@$(BIN)/python -m tests.bench.scaling $(ARGS)

.PHONY: profile
profile: dev broker ## Write a flame graph of a worker at full rate: make profile OUT=flame.svg ARGS="--path rare" (needs py-spy)
	@test -n "$(OUT)" || { echo "make profile needs OUT: an .svg, or a .json for speedscope.app" >&2; exit 2; }
	@$(BIN)/python -m tests.bench.service --profile "$(OUT)" $(ARGS)

.PHONY: soak
soak: dev broker ## Run a worker at full rate for 30 minutes; fails when memory, handles, tasks or latency grow (ARGS="--store memory")
	@$(BIN)/python -m tests.bench.soak $(ARGS)

.PHONY: bench-hostile
bench-hostile: dev ## Measure what hostile records cost, and the memory that a million new accounts take
	@$(BIN)/python -m tests.bench.hostile
	@$(BIN)/python -m tests.bench.flood $(ARGS)

.PHONY: bench-detection
bench-detection: dev ## Measure detection on composed and hostile traffic into tests/bench/DETECTION.md (needs STILLWATCH_SHARED)
	@test -n "$(STILLWATCH_SHARED)" || { echo "make bench-detection needs STILLWATCH_SHARED: the folder that holds traffic/ and corpora/" >&2; exit 2; }
	@$(BIN)/python -m tests.bench.detection_report --shared "$(STILLWATCH_SHARED)" $(ARGS)

.PHONY: redteam
redteam: dev ## Try every evasion, and every customer that only looks like one, on the detector (ARGS="--only WORD --out FILE")
	@$(BIN)/python -m tests.redteam $(ARGS)

# --- Deploy it

.PHONY: image
image: ## Build the container image and write its parts list beside it: make image IMAGE=localhost/stillwatch:dev
	@deploy/image.sh build $(IMAGE)

# --- Make what is checked in

.PHONY: schemas
schemas: runtime ## Write schemas/published again from the code
	@$(BIN)/python -m schemas.publish

.PHONY: pages
pages: runtime ## Write deploy/monitoring/METRICS.md and deploy/asyncapi.json again from the code
	@$(BIN)/python -m streams.metrics_page
	@$(BIN)/python -m streams.asyncapi

.PHONY: chart-schema
chart-schema: runtime ## Write the settings into deploy/chart/values.schema.json again from the code
	@PYTHONPATH=. $(BIN)/python deploy/chart_schema.py

.PHONY: layout
layout: runtime ## Publish today's layout of the accounts' records, so that later versions can read states in it
	@$(BIN)/python -m detectors.layouts

.PHONY: baseline
baseline: runtime ## Fit the default baseline again: make baseline EVENTS="history1.jsonl history2.jsonl" NOTE="where from"
	@test -n "$(EVENTS)" || { echo "make baseline needs EVENTS: one or more files of organic history (JSON lines)" >&2; exit 2; }
	@$(BIN)/stillwatch fit $(EVENTS) --out detectors/default_baseline.json --note "$(NOTE)" $(ARGS)

# Packages younger than a week are passed over: a release that turns out bad is mostly gone by then.
.PHONY: lock
lock: dev ## Write the lock files again with the newest versions that pyproject.toml allows
	@set -e; compile="$(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 \
		--fork-strategy fewest --only-binary :all: --exclude-newer '7 days' --generate-hashes --no-emit-index-url --no-header"; \
	eval "$$compile pyproject.toml --extra otel --group build --output-file requirements.lock" >/dev/null; \
	eval "$$compile pyproject.toml --group dev --constraints requirements.lock --output-file requirements-dev.lock" >/dev/null; \
	eval "$$compile --group tools --output-file deploy/tools.lock" >/dev/null; \
	git --no-pager diff --stat -- requirements.lock requirements-dev.lock deploy/tools.lock

# --- Set-up, and its undoing

.PHONY: runtime
runtime: ## Make .venv with what the service needs
	@deploy/venv.sh make $(VENV) runtime $(PYTHON)

.PHONY: dev
dev: ## Make .venv with what the tests and linters need too
	@deploy/venv.sh make $(VENV) dev $(PYTHON)

.PHONY: broker
broker: ## See to Java, Maven and Kafka's jars, start nothing
	@deploy/kafka/kafka.sh prepare

.PHONY: connect-jars
connect-jars: ## See to Java, Maven and the jars of Kafka Connect, start nothing
	@deploy/kafka/kafka.sh prepare-connect

.PHONY: deploy-tools
deploy-tools: ## See to Helm, kubectl, hadolint and the schemas that the tests of deploy/ check manifests with
	@deploy/tools.sh prepare

.PHONY: clean
clean: ## Delete .venv and everything else that was made in this checkout
	@rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	@find $(PACKAGES) tests -name __pycache__ -type d -prune -exec rm -rf {} +
