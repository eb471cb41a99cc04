# GNU make 3.81 is enough (that is what macOS has). `make help` lists what there is.
.DEFAULT_GOAL := help
.PHONY: help run test lint fmt bench simulate sanitize soak crash fuzz-gateway eval lock proto native clean setup FORCE
.NOTPARALLEL:

VENV := .venv
BIN := $(VENV)/bin
# Inside .venv, so that they go with it.
STAMPS := $(VENV)/.make
SETUP := sh deploy/setup.sh
PYTHON_CODE := agent api audit core evals knowledge tools tests migrations bench deploy
NATIVE_SOURCES := $(wildcard core/native/*.cpp core/native/*.h core/native/*.hpp core/native/*/*.cpp core/native/*/*.h core/native/*/*.hpp)

# make run ARGS='--market recording:/path/to/file.gz --speed 10'; make test ARGS='tests/core -x'
ARGS ?=
# make simulate SEEDS=<how many> SEED=<first>
SEEDS ?= 1000
SEED ?= 1
# make fuzz-gateway CALLS=<how many>
CALLS ?= 10000
# The Python to build .venv with, e.g. make run PYTHON=python3.12. Empty: the first usable of 3.13, 3.12, 3.11.
PYTHON ?=
export PYTHON

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

run: $(STAMPS)/native ## install what is missing, start everything, print where it is; options in ARGS
	@$(BIN)/veloz up $(ARGS)

test: $(STAMPS)/dev $(STAMPS)/native ## install what is missing, run the tests; options in ARGS
	@$(BIN)/python -m pytest $(ARGS)

lint: $(STAMPS)/dev $(STAMPS)/native ## everything a commit must pass besides the tests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/clang-format --dry-run --Werror $(NATIVE_SOURCES)
	@$(BIN)/python deploy/checks.py proto stub text

fmt: $(STAMPS)/dev ## format all sources
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .
	@$(BIN)/clang-format -i $(NATIVE_SOURCES)

bench: $(STAMPS)/dev $(STAMPS)/native ## run every benchmark in bench/, one JSON object each
	@$(BIN)/python deploy/benchmarks.py $(ARGS)

simulate: $(STAMPS)/dev $(STAMPS)/native ## seeded simulation of engine, disk, network and venue; SEEDS=how many SEED=first
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS) --seed $(SEED) $(ARGS)

sanitize: $(STAMPS)/venv ## run the native core under ASan and UBSan; ARGS='--fuzz 600' for libFuzzer
	@$(BIN)/python deploy/sanitize.py $(ARGS)

soak: $(STAMPS)/dev $(STAMPS)/native ## replay an hour of recorded market: is memory flat, is every book right
	@$(BIN)/python deploy/soak.py $(ARGS)

crash: $(STAMPS)/dev $(STAMPS)/native ## kill -9 a trading engine again and again and compare with its venue; ARGS='--times 100 --seed 1'
	@$(BIN)/python -m tests.crash.run $(ARGS)

fuzz-gateway: $(STAMPS)/dev $(STAMPS)/native ## send CALLS=10000 malformed calls over REST, MCP and gRPC: typed answers, none unrecorded
	@GATEWAY_FUZZ_CALLS=$(CALLS) $(BIN)/python -m pytest -q --timeout=7200 tests/api/faces/test_malformed_faces.py $(ARGS)

eval: $(STAMPS)/dev $(STAMPS)/native ## run the agent evals against a service of their own; options in ARGS
	@$(BIN)/python -m api.supervisor.ephemeral -- $(BIN)/python -m evals.run $(ARGS)

lock: $(STAMPS)/venv ## resolve pyproject.toml into requirements/*.lock; ARGS=--upgrade for newer versions
	@$(SETUP) lock $(ARGS)

proto: $(STAMPS)/dev ## generate the _proto packages from proto/
	@$(BIN)/python deploy/checks.py --write proto

native: $(STAMPS)/run ## build the native module anew and its type stub
	@$(SETUP) native
	@touch $(STAMPS)/native
	@$(BIN)/python deploy/checks.py --write stub

clean: ## remove what was built and installed; data in VELOZ_HOME stays
	rm -rf $(VENV) $(STAMPS) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find $(PYTHON_CODE) -name __pycache__ -type d -prune -exec rm -rf {} +

setup: $(STAMPS)/dev $(STAMPS)/native ## install everything and start nothing

ifneq ($(PYTHON),)
$(STAMPS)/venv: FORCE
endif
$(STAMPS)/venv: requirements/uv.lock deploy/setup.sh
	@$(SETUP) venv
	@if [ ! -e $@ ] || [ requirements/uv.lock -nt $@ ] || [ deploy/setup.sh -nt $@ ]; then \
		mkdir -p $(STAMPS) && touch $@; fi

$(STAMPS)/run: requirements/run.lock $(STAMPS)/venv
	@echo "Installing from requirements/run.lock"
	@$(SETUP) sync requirements/run.lock
	@touch $@

# dev.lock holds everything in run.lock.
$(STAMPS)/dev: requirements/dev.lock $(STAMPS)/venv
	@echo "Installing from requirements/dev.lock"
	@$(SETUP) sync requirements/dev.lock
	@touch $@ $(STAMPS)/run

# run.lock pins the build tools; installing more with dev.lock is no reason to build again.
$(STAMPS)/native: pyproject.toml CMakeLists.txt $(NATIVE_SOURCES) requirements/run.lock $(STAMPS)/venv | $(STAMPS)/run
	@echo "Building the native module"
	@$(SETUP) native
	@touch $@
