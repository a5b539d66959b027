# Simulation; docs/SIMULATION.md says what it is.
#
#   make sim SEEDS=10000 [SEED=first]   many seeds; without SEED from a random one, which is printed
#   make sim-ci [SIM_TIME=40]           new seeds for that many seconds; part of `make test` in CI
#   make sim-mutants [SEED=first]       shows that every planted bug is found

SEEDS ?= 2000
SIM_TIME ?= 40
SIM_SEED := $(if $(SEED),--seed $(SEED))
# Nearly as fast as release, with every check, and sooner built.
SIM := $(CARGO) run --profile sim --quiet --bin baton

.PHONY: sim sim-ci sim-mutants
sim: ## run SEEDS=2000 simulated systems, from SEED or a random one
	$(SIM) -- sim $(SIM_SEED) --seeds $(SEEDS)

# The seeds come from the clock: each run sees others. The first one is printed, before and after.
sim-ci:
	$(SIM) -- sim --seed $(if $(SEED),$(SEED),$$(date +%s)000) --seconds $(SIM_TIME)

sim-mutants: ## show that the simulator finds every planted bug
	$(SIM) --features mutants --target-dir target/mutants -- sim --mutants \
	    --seed $(if $(SEED),$(SEED),1)
