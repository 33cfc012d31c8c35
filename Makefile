# The operator's interface: setup, run, test, check, bench. Everything else is a step of one of these.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.NOTPARALLEL:
# Compiled files are kept, whatever the shell says: reading all modules and rewriting all tests anew takes half a minute.
unexport PYTHONDONTWRITEBYTECODE

HEARTH := .venv/bin/hearth
PYTEST := .venv/bin/pytest
# Tests that count what is on the machine (processes, mounts, control groups), or fill it: nothing may run beside them.
ALONE := tests/sandbox tests/executor
# Files of the other tests that run at the same time: half of the time they wait for others, so more than there are cores.
TOGETHER := 3
# Extra arguments for pytest, e.g. `make check T="-k pool"`.
T ?=

.PHONY: help setup setup-test setup-bench run test check isolation-report conformance-table fault-report bench lock clean

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

setup: ## install what the server needs (apt, pip); quick when nothing changed
	@scripts/setup run

setup-test: ## the same and what the tests need (PostgreSQL, linters, official SDKs)
	@scripts/setup test

setup-bench: ## the same and the load generator of the benchmark
	@scripts/setup bench

run: setup ## start the server and deploy the examples; ONCE=1 stops after the results
	@exec $(HEARTH) quickstart $(if $(filter-out 0 no,$(ONCE)),--once)

check: setup-test ## format, lint, types, import rules and fast tests (under a minute)
	@scripts/check $(T)

test: check ## everything: `check`, then sandboxes, builds, official clients, crash tests
	$(PYTEST) -n $(TOGETHER) --dist loadfile --no-loadscope-reorder --durations=20 -m "slow or sandbox or network or clients" $(ALONE:%=--ignore=%) $(T)
	$(PYTEST) --durations=20 -m "slow or sandbox or network or clients" $(ALONE) $(T)

isolation-report: setup-test ## the isolation cases on every driver here, as a table: docs/isolation-report.md (KEEP=1: add to it)
	PYTHONPATH=. HEARTH_ISOLATION_REPORT_KEEP=$(KEEP) HEARTH_ISOLATION_REPORT=$(CURDIR)/docs/isolation-report.md $(PYTEST) -q -p tests.sandbox.report \
	  tests/sandbox tests/executor/test_stem_isolation.py $(T)

# What no host has: these come as packs with a system of their own (some 2 GB).
CONFORMANCE_PACKS := kotlin-1.9 dart-3.11 rust-1.83
conformance-table: setup-test ## the cases of the runtime contract in every language, as a table in docs/runtimes.md
	$(HEARTH) runtimes install $(CONFORMANCE_PACKS) --packs-dir $(or $(HEARTH_TEST_PACKS_DIR),.cache/packs)
	HEARTH_TEST_ALL_PACKS=1 PYTHONPATH=. HEARTH_CONFORMANCE_TABLE=$(CURDIR)/docs/runtimes.md $(PYTEST) -q \
	  -p tests.shims.report tests/shims/test_conformance.py tests/shims/test_loading.py -k "not process" $(T)

fault-report: setup-test ## rounds of kills under load on both engines (ROUNDS=100 of each): docs/durability-report.md
	PYTHONPATH=. .venv/bin/python -m tests.faults.report --rounds $(or $(ROUNDS),100)

bench: setup-bench ## the benchmarks; a table for each at the end, JSON in bench-results/
	.venv/bin/python -m bench
	.venv/bin/python -m bench.cold
	.venv/bin/python -m bench.machine
	.venv/bin/python -m bench.lists
	.venv/bin/python -m bench.queue
	.venv/bin/python -m bench.schedules

lock: setup-test ## compile the lock files anew (UPGRADE=1 to move to the newest versions)
	@scripts/lock $(if $(filter-out 0 no,$(UPGRADE)),--upgrade)

clean: ## remove everything that was installed into this checkout (keeps data/)
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist
	rm -rf tests/clients/node/node_modules bench-results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
