# The long form of scenario 4d: the server is killed N times under eight clients.
#   make torture N=500            a new seed each time, printed
#   make torture N=500 SEED=7     the same sections, and kills after as many of them
#   make torture DURABILITY=os    without syncs

N ?= 500
SEED ?=
DURABILITY ?= sync

.PHONY: torture
torture:
	BATON_TORTURE_KILLS=$(N) BATON_TORTURE_DURABILITY=$(DURABILITY) \
	    $(if $(SEED),BATON_TEST_SEED=$(SEED)) \
	    cargo test --release --test torture -- --nocapture --exact \
	    scenario_4d_killed_at_any_moment_nothing_acknowledged_is_lost_or_doubled_or_torn
