# `make demo` shows it; `make check test` is what a change must pass. Everything that is made here stays in
# .venv and .ramure-dev (both git-ignored). On Debian and Ubuntu, root gets missing system packages installed.

VENV := .venv
BIN := $(VENV)/bin
DEV := .ramure-dev
SEED ?=
N ?=
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help venv demo check lint types public-types extension format test quick lowest edges hostile crowd bench conformance chaos links delivery soak coverage mutants release-check clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 15

venv: $(VENV)/.stamp  ## the virtual environment, with ramure (editable) and all that the tests need

$(VENV)/.stamp: pyproject.toml tools/venv.sh
	@tools/venv.sh $(VENV) dev
	@touch $@ $(VENV)/.bare

$(VENV)/.bare: pyproject.toml tools/venv.sh  # ramure without what only the tests need
	@tools/venv.sh $(VENV)
	@touch $@

demo: $(VENV)/.bare  ## the haiku program, on real pi
	@tools/need.sh tmux ps
	@$(BIN)/ramure setup
	@$(BIN)/ramure demo

check: $(VENV)/.stamp  ## format, lint, types, imports; under a minute
	@$(MAKE) -j4 --no-print-directory lint types public-types extension

lint:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types:
	$(BIN)/mypy

public-types: $(VENV)/.stamp  ## does the wheel say the type of each public name? pyright --verifytypes at 100%; 10 s
	$(BIN)/python tools/verify_types.py

extension:
	$(BIN)/python tools/typecheck_extension.py $(DEV)

format: $(VENV)/.stamp  ## let ruff format, and mend what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: $(VENV)/.stamp  ## everything, on real tmux, pi and Erlang (PYTEST_ARGS= to choose)
	@tools/need.sh tmux ps erl erlc sshd ssh bwrap git dockerd docker ip zsh fish tcsh
	$(BIN)/pytest -n 4 --dist worksteal $(PYTEST_ARGS)

quick: $(VENV)/.stamp  ## the tests that start no real pi, tmux, sshd, Docker or Erlang, nor many programs: 90 s
	@tools/need.sh ps git bwrap
	$(BIN)/pytest -n 4 --dist worksteal --quick $(PYTEST_ARGS)

lowest: $(VENV)/.stamp  ## a fast part of the tests on the lowest versions of each library that pyproject.toml allows
	@tools/need.sh tmux ps sshd ssh git bwrap
	@tools/lowest.sh $(BIN)/uv $(VENV)-lowest
	# The schemas' files are made with the newest pydantic, which adds the descriptions of types.
	$(VENV)-lowest/bin/pytest -n 3 --dist worksteal -p no:cacheprovider \
		--deselect tests/cli/test_schemas.py::test_the_file_is_what_the_code_makes tests/cli tests/control tests/testing/test_leaks.py \
		tests/testing/test_names.py tests/machines/test_tmux_contract.py tests/machines/test_ssh.py tests/agents/test_gateway.py \
		tests/agents/test_extension.py tests/agents/test_schema.py tests/agents/test_accepted.py tests/agents/test_types.py \
		tests/e2e/test_imports.py tests/runtime/test_facade.py tests/runtime/test_typed_calls.py $(PYTEST_ARGS)

edges: $(VENV)/.stamp  ## random trials of what must not touch what is yours: git, mounts, daemons (N=3: three times as many)
	@tools/need.sh tmux ps git sshd ssh bwrap
	RAMURE_SOAK=$(if $(N),$(N),1) $(BIN)/pytest -n 2 --dist worksteal tests/edges tests/docs/test_types.py tests/e2e/test_answers.py tests/e2e/test_stalled.py \
		tests/chaos/test_table.py tests/testing/test_harness_conformance.py $(PYTEST_ARGS)

hostile: $(VENV)/.stamp  ## attacks from each position, also the slow ones: tests/hostile/README.md lists them (N=: size of the fuzz)
	@tools/need.sh tmux ps git sshd ssh bwrap dockerd docker
	RAMURE_SOAK=$(if $(N),$(N),1) $(BIN)/pytest -n 2 --dist worksteal tests/hostile tests/machines/test_sandbox.py tests/machines/test_removal.py \
		tests/control/test_server.py tests/control/test_fuzz.py tests/edges/test_files.py $(PYTEST_ARGS)

crowd: $(VENV)/.stamp  ## 1,000 agents for half an hour: what must not grow (N=: how many seconds)
	$(BIN)/python -m benchmarks.runtime.soak $(if $(N),--seconds $(N))

bench: $(VENV)/.stamp  ## figures, printed and compared with the recorded ones
	@tools/need.sh tmux ps sshd bwrap dockerd docker
	$(BIN)/python -m benchmarks

conformance: $(VENV)/.stamp  ## 5,000 and 20,000 new seeds on real Erlang/OTP and on ramure: no difference (SEED=, N=)
	@tools/need.sh erl erlc
	$(BIN)/python -m tests.conformance.oracle $(if $(SEED),--seed $(SEED)) $(if $(N),--count $(N))

chaos: $(VENV)/.stamp  ## faults at random points: SEED= repeats one run, N= is how many
	@tools/need.sh tmux ps
	$(BIN)/python -m tests.chaos $(if $(SEED),--seed $(SEED)) $(if $(N),-n $(N))

links: $(VENV)/.stamp  ## an agent on a host whose link, sshd or power fails, each way once; as root (N=: how often)
	@tools/need.sh tmux ps sshd ip iptables
	$(BIN)/python -m tests.links --write $(if $(SEED),--seed $(SEED)) $(if $(N),-n $(N))

delivery: $(VENV)/.stamp  ## 2,000 messages and calls on real pi, beside cuts and kills: what the model got (SEED=, N=)
	@tools/need.sh tmux ps
	$(BIN)/python -m tests.delivery $(if $(SEED),--seed $(SEED)) $(if $(N),-n $(N))

soak: $(VENV)/.stamp  ## the random tests at full size, with new examples (N=3: three times as many)
	RAMURE_SOAK=$(if $(N),$(N),1) $(BIN)/pytest tests/properties tests/actors/test_state_machines.py \
		tests/supervisors/test_core_properties.py tests/agents/test_delivery_faults.py tests/runtime/test_actor_views.py \
		tests/control/test_fuzz.py tests/control/test_values.py tests/runtime/test_each_many.py tests/simulation $(PYTEST_ARGS)
	$(BIN)/python -m tests.actors.soak_threads --seconds 20
	$(BIN)/python -m tests.cli.flood

coverage: $(VENV)/.stamp  ## branches of the supervisors' pure core that its tests do not try: none
	$(BIN)/coverage run -m pytest -q -p no:cacheprovider tests/supervisors
	$(BIN)/coverage report

mutants: $(VENV)/.stamp  ## small wrong changes to the pure cores: does a test notice each?
	$(BIN)/python -m tests.mutants $(if $(N),-n $(N))

release-check: $(VENV)/.stamp  ## the wheel alone, in an empty environment with an empty HOME: setup, demo, a program, a test
	@tools/need.sh tmux ps
	tools/release_check.sh $(BIN)/python "$$PWD/$(BIN)/uv"

clean:  ## remove all that was made here
	rm -rf $(VENV) $(VENV)-lowest $(DEV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
