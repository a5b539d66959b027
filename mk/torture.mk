# The long form of scenario 4d: the server is killed N times under eight clients.
#   make torture N=500            a new seed each time, printed
#   make torture N=500 SEED=7     the same sections, and kills after as many of them
#   make torture DURABILITY=os    without syncs

N ?= 500
SEED ?=
DURABILITY ?= sync

.PHONY: torture torture-cluster
torture: ## kill a server N=500 times under clients
	BATON_TORTURE_KILLS=$(N) BATON_TORTURE_DURABILITY=$(DURABILITY) \
	    $(if $(SEED),BATON_TEST_SEED=$(SEED)) \
	    cargo test --release --test torture -- --nocapture --exact \
	    scenario_4d_killed_at_any_moment_nothing_acknowledged_is_lost_or_doubled_or_torn

# Three and five servers: killed, replaced, cut off from each other and from clients, N times each.
torture-cluster: ## kill the servers of clusters and cut them off N=500 times under clients
	BATON_TORTURE_KILLS=$(N) BATON_TORTURE_CUTS=$(N) $(if $(SEED),BATON_TEST_SEED=$(SEED)) \
	    cargo test --release --no-fail-fast --test torture_cluster --test torture_partition -- \
	    --nocapture --test-threads=1
