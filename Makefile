# Everything that a developer, a user or CI runs. `make` alone lists it.

# Of the oldest version that will do, the build on PATH that is quickest, unless one is named.
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
# Newer than what it depends on once the environment is complete, so that nothing is installed twice.
STAMP := $(VENV)/.installed
PROTOS := $(wildcard proto/coordinator/v1/*.proto)

# Where it is set, each of the hundreds of processes of a run compiles all modules again: double its start.
export PYTHONDONTWRITEBYTECODE :=

SEEDS ?= 1000
FROM ?= 1
JOBS ?= 2
WORKFLOW ?=
DRILL ?= all
DURATION ?= 30s
SEED ?=
UNTIMED ?=
INSTANCES ?=
PEERS ?=
FOLDER ?=
NAME ?=
OBJECTIVES := balance energy locality fairness deadline gpu
SPEEDUP ?=
SUITE = $(foreach name,$(ONLY),--only $(name)) $(if $(RUNS),--runs $(RUNS)) $(if $(BACKLOG),--backlog $(BACKLOG)) \
	$(if $(JSON),--json "$(JSON)")

.DEFAULT_GOAL := help
.PHONY: help install proto fmt lint test sim sim-soak sim-planted chaos demo bench bench-quick bench-soak bench-crowd bench-consensus bench-snapshot bench-placement bench-objectives bench-peers bench-turns scenarios profile clean distclean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## Install the project and its tools into .venv (once)

$(STAMP): pyproject.toml tools/build_hook.py tools/generate_stubs.py $(PROTOS)
	@# Some systems ship venv without ensurepip: their own pip can fill the environment too.
	@test -x $(BIN)/python -a -x $(BIN)/pip || { \
		python="$(or $(PYTHON),$$(tools/choose_python.sh))"; \
		test -n "$$python" || { echo "no Python 3.11 or newer was found: install one, or name it with make PYTHON=..." >&2; exit 1; }; \
		"$$python" -m venv --clear $(VENV) || { \
			"$$python" -m venv --clear --without-pip $(VENV) && "$$python" -m pip -q --python $(BIN)/python install pip; }; }
	@# What comes with Python may be a pip that takes a minute longer to choose among files.
	$(BIN)/python -m pip install -q --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@

proto: $(STAMP) ## Generate the gRPC stubs of proto/ again
	$(BIN)/python tools/generate_stubs.py

fmt: $(STAMP) ## Format the code and mend what can be mended by itself
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

lint: $(STAMP) ## Style, types, the import contract, the form of the code
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tools.check_form

test: $(STAMP) ## Run the whole test suite, in two processes: make test [JOBS=n]
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal

demo: $(STAMP) ## A cluster that loses its leader in mid-run: make demo [WORKFLOW=file] [SPEEDUP=n]
	$(BIN)/python -m examples.demo $(if $(WORKFLOW),--workflow "$(WORKFLOW)") $(if $(SPEEDUP),--speedup $(SPEEDUP))

# Nothing in a world depends on how fast it goes: it leaves the cores to whatever cannot wait.
sim: $(STAMP) ## Simulated clusters with faults, on virtual time: make sim [SEEDS=n] [FROM=n] [JOBS=n]
	nice -n 19 $(BIN)/python -m chaos.sim --seeds $(SEEDS) --from $(FROM) --jobs $(JOBS)

sim-soak: $(STAMP) ## The same with new seeds until stopped: make sim-soak [FROM=n] [JOBS=n]
	$(BIN)/python -m chaos.sim --forever --from $(FROM) --jobs $(JOBS)

sim-planted: $(STAMP) ## Plant bugs, and see that the simulator finds each of them
	$(BIN)/python -m chaos.sim.planted

chaos: $(STAMP) ## Break real clusters, write reports to .drills: [DRILL=name] [DURATION=30s] [SEED=n] [UNTIMED=1]
	$(BIN)/python -m chaos run $(DRILL) --duration $(DURATION) --out .drills \
		$(if $(SEED),--seed $(SEED)) $(if $(UNTIMED),--untimed)

bench: $(STAMP) ## Measure W1 to W8, two to seven minutes: [ONLY="W1 W3"] [RUNS=n] [BACKLOG=n] [JSON=file]
	$(BIN)/python -m bench $(SUITE)

bench-quick: $(STAMP) ## Measure W1 to W4, W7 and W7_stream alone: [RUNS=n] [JSON=file]
	$(BIN)/python -m bench --quick $(SUITE)

bench-soak: $(STAMP) ## Half an hour of load: do memory and p99 stay? [MINUTES=n] [RATE=DAGs a second] [JSON=file]
	$(BIN)/python -m bench.soak $(if $(MINUTES),--minutes $(MINUTES)) $(if $(RATE),--rate $(RATE)) \
		$(if $(JSON),--json "$(JSON)")

bench-crowd: $(STAMP) ## Many agents come at once, and come back when the leader is killed: [AGENTS=n] [RUNS=n] [JSON=file]
	$(BIN)/python -m bench.crowd $(if $(AGENTS),--agents $(AGENTS)) $(if $(RUNS),--runs $(RUNS)) \
		$(if $(JSON),--json "$(JSON)")

bench-turns: $(STAMP) ## Another version, installed in a folder, and this one by turns: FOLDER=path [ONLY="W1 W3"]
	$(BIN)/python -m bench.turns $(if $(FOLDER),"$(FOLDER)") $(foreach name,$(ONLY),--only $(name))

profile: $(STAMP) ## Where the leader's time goes, as a flame graph: [WORKLOAD=W1]
	$(BIN)/python -m bench.profile $(or $(WORKLOAD),W1)

bench-snapshot: $(STAMP) ## The latency of writes while a follower gets a state of a million tasks: [TASKS=n] [JSON=file]
	$(BIN)/python -m bench.snapshot $(if $(TASKS),--tasks $(TASKS)) $(if $(JSON),--json "$(JSON)")

bench-consensus: $(STAMP) ## The latency of replicated writes, beside etcd where that is installed: [TLS=1] [RUNS=n] [JSON=file]
	$(BIN)/python -m bench.consensus $(if $(TLS),--tls) $(if $(RUNS),--runs $(RUNS)) $(if $(JSON),--json "$(JSON)")

bench-peers: $(STAMP) ## The workloads on other systems and on ours, by turns: [PEERS="dask ray parsl celery etcd"] [JSON=file]
	$(BIN)/python -m bench.peers $(PEERS) $(if $(JSON),--json "$(JSON)")

bench-placement: $(STAMP) ## The quality and the speed of plans: [INSTANCES=folder of WfFormat files] [JSON=file]
	$(if $(INSTANCES),$(BIN)/python -m bench.placement quality --instances "$(INSTANCES)" $(if $(JSON),--json "$(JSON)"))
	$(BIN)/python -m bench.placement speed

bench-objectives: $(STAMP) ## What each weight of placement gains and costs, drawn to docs/pictures: [NAME=balance|energy|...]
	for name in $(or $(NAME),$(OBJECTIVES)); do \
		$(BIN)/python -m bench.placement $$name --picture docs/pictures/$$name.svg || exit 1; done

scenarios: $(STAMP) ## Five scenarios, with what was measured beside what is asked for: [NAME=drones|science|...]
	$(BIN)/python -m examples.scenarios $(NAME)

clean: ## Remove caches and what was built
	rm -rf build dist .demo .drills .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## Also remove the environments and the stubs
	rm -rf $(VENV) .peers quorumflow_proto
