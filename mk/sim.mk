# Simulation; docs/SIMULATION.md says what it is.
#
#   make sim SEEDS=10000 [SEED=first]   many seeds; without SEED from a random one, which is printed
#   make sim-ci [SIM_TIME=40]           new seeds for that many seconds, of clusters too; part of `make test` in CI
#   make sim-cluster SEEDS=… [SERVERS=3] the same for clusters of this many servers
#   make sim-mutants [SEED=first] [MUTANTS=name,name]
#                                       shows that every planted bug is found, or these

SEEDS ?= 2000
SIM_TIME ?= 40
SERVERS ?= 3
SIM_SEED := $(if $(SEED),--seed $(SEED))
SIM_CLUSTER = --calls 120 --seed $(if $(SEED),$(SEED),$$(date +%s)000)
# Nearly as fast as release, with every check, and sooner built.
SIM := $(CARGO) run --profile sim --quiet --bin baton

.PHONY: sim sim-ci sim-cluster sim-mutants
sim: ## run SEEDS=2000 simulated systems, from SEED or a random one
	$(SIM) -- sim $(SIM_SEED) --seeds $(SEEDS)

# The seeds come from the clock: each run sees others. The first one is printed, before and after.
sim-ci:
	$(SIM) -- sim --seed $(if $(SEED),$(SEED),$$(date +%s)000) --seconds $(SIM_TIME)
	$(SIM) -- sim --servers 3 $(SIM_CLUSTER) --seconds 20
	$(SIM) -- sim --servers 5 $(SIM_CLUSTER) --seconds 5
	$(SIM) -- sim --servers 1 $(SIM_CLUSTER) --seconds 5

sim-cluster: ## run SEEDS=2000 simulated clusters of SERVERS=3, from SEED or a random one
	$(SIM) -- sim --servers $(SERVERS) --calls 120 $(SIM_SEED) --seeds $(SEEDS)

sim-mutants: ## show that the simulator finds every planted bug
	$(SIM) --features mutants --target-dir target/mutants -- sim --mutants $(MUTANTS) \
	    --seed $(if $(SEED),$(SEED),1)
