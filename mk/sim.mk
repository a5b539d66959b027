# Simulation: `make sim SEEDS=N [SEED=first]`, `make sim-mutants`. Without SEED the first seed is
# drawn at random and printed.
SEEDS ?= 2000
SIM_SEED := $(if $(SEED),--seed $(SEED))

.PHONY: sim sim-mutants
sim: ## Run SEEDS simulated systems from SEED
	cargo run --profile sim --quiet --bin baton -- sim $(SIM_SEED) --seeds $(SEEDS)

sim-mutants: ## Show that the simulator finds every planted bug
	cargo run --profile sim --quiet --features mutants --target-dir target/mutants --bin baton -- sim --mutants --seed $(if $(SEED),$(SEED),1)
