# The targets only name scripts; `make` lists them.
SHELL := /bin/bash
NODE := .tools/node/bin/node
SYSTEM := $(NODE) scripts/system/main.mjs
.DEFAULT_GOAL := help
.PHONY: help setup build up down tenants status demo dev test check bench sim soak fuzz power-cut cgroup2 package clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /  make \1\t/' | expand -t 18

setup: ## bring everything this machine lacks, in pinned versions (docs/setup.md)
	@scripts/setup.sh

build: setup ## compile to dist/
	@scripts/build.sh

up: build ## start the system here, or what is missing of it; TLS=1: by TLS alone, from then on
	@SANDTRAIL_TLS=$(TLS) $(SYSTEM) up

down: ## stop it, no process or mount stays; its data does, for the next up
	@[[ ! -x $(NODE) ]] || $(SYSTEM) down

tenants: ## bring the broker's accounts to the table of tenants; ROTATE=name gives one a new password
	@$(SYSTEM) tenants $(ROTATE)

status: ## what runs
	@$(SYSTEM) status

demo: build ## the main job on a private system: create, exec, snapshot, terminate, replay, verify
	@$(SYSTEM) demo

dev: build ## compile and restart the services on each save (until Ctrl-C)
	@$(SYSTEM) dev

test: ## set-up, checks and every test; F=pattern runs the test files that match, and nothing else
	@scripts/test.sh $(F)

check: setup ## format, lint, types, import directions, API descriptions, compose file
	@scripts/check.sh

bench: build ## figures against baselines of the same run; F="append idle" only these, SIZE=full as the targets say
	@SIZE=$(SIZE) $(NODE) --conditions=source --import tsx bench/main.ts $(F)

sim: setup ## the control plane in virtual time, RUNS=n seeds (1000); SEED=n repeats one and tells all
	@$(if $(SEED),SIM_SEED=$(SEED)) SIM_RUNS=$(or $(RUNS),1000) $(NODE) --conditions=source test/sim/main.mjs

fuzz: build ## bad input, S=seconds (60) of each fuzzer: what the agent reads (coverage-guided), HTTP, NATS; SEED=n repeats the latter two
	@scripts/fuzz-agent.sh $(or $(S),60)
	@$(NODE) --conditions=source --import tsx test/fuzz/main.ts $(or $(S),60) $(SEED)

soak: build ## new seeds of the simulation, the main job and the fuzzers, S=seconds of each (600); hostile guests at full size; then every fault, FAULTS=seconds (7200) SEED=n
	@SIM_FROM=$$(date +%s) SIM_RUNS=1000000 SIM_SECONDS=$(or $(S),600) $(NODE) --conditions=source test/sim/main.mjs
	@$(SYSTEM) soak $(S)
	@$(MAKE) --no-print-directory fuzz S=$(or $(S),600)
	@SOAK=1 scripts/test.sh hostile-guest
	@$(NODE) --conditions=source --import tsx test/faults/main.ts $(or $(FAULTS),7200) $(SEED)
	@$(NODE) --conditions=source --import tsx test/power-cut/main.ts $(or $(CUTS),5) $(SEED)

package: build ## pack it for an installation without a clone (docs/install.md)
	@$(NODE) scripts/pack.mjs

power-cut: build ## CUTS=n times (5) the log's host loses its power, in a QEMU guest whose disk forgets; SEED=n
	@$(NODE) --conditions=source --import tsx test/power-cut/main.ts $(or $(CUTS),5) $(SEED)

cgroup2: setup ## the worker's tests of cgroups and gVisor in a QEMU guest that has cgroup v2 alone
	@$(NODE) --conditions=source --import tsx test/cgroup2/main.ts

clean: down ## remove what was built here; the cache of set-up stays
	@rm -rf dist agent/target .tools coverage .sandtrail/logs
