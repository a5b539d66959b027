# Measuring. Included by the Makefile; docs/PERFORMANCE.md says what is measured and how.
#
#   make bench             everything, against what is installed; build/bench/ has the results
#   make bench SHORT=1     the same in about a minute, for a first look
#   make bench-record      the same as make bench, and docs/PERFORMANCE.md gets the tables
#   make bench ROUNDS=9 SECONDS=3 ONLY=cycle,library
#   make bench ONLY=cluster KILLS=50
#   make bench-peers       installs Redis, memcached, PostgreSQL, etcd and their libraries (Debian)
#   make bench-parts       criterion benches of the parts
#   make instructions      the path of a request, counted in instructions, against its budget
#   make instructions-update   writes what is counted now into the budget

CARGO ?= cargo
PYTHON ?= python3
CC ?= cc
BENCH_CFLAGS := -O2 -g -Wall -Wextra -std=gnu11 -pthread
BENCH_OUT := build/bench

ROUNDS ?=
SECONDS ?=
ONLY ?=
SHORT ?=
KILLS ?=
RECORD ?=

.PHONY: bench bench-record bench-peers bench-parts bench-tools bench-release instructions instructions-update

bench: bench-release bench-tools ## measure against echo, Redis, PostgreSQL, …
	$(PYTHON) tools/bench --out $(BENCH_OUT) $(if $(SHORT),--short) $(if $(ROUNDS),--rounds $(ROUNDS)) \
		$(if $(SECONDS),--seconds $(SECONDS)) $(if $(KILLS),--kills $(KILLS)) $(if $(ONLY),--only $(ONLY)) $(if $(RECORD),--record $(RECORD))

bench-record: ## measure everything and write the tables into docs/PERFORMANCE.md
	$(MAKE) bench RECORD=docs/PERFORMANCE.md

bench-release:
	$(CARGO) build --release --locked
	$(CARGO) build --release --locked --example crowd

# A peer whose library is not there is left out; the bench says so.
bench-tools:
	@mkdir -p $(BENCH_OUT)/bin
	$(CC) $(BENCH_CFLAGS) -o $(BENCH_OUT)/bin/echo benches/peers/echo.c
	@for peer in udp tcp disk memcached etcd; do \
		$(CC) $(BENCH_CFLAGS) -o $(BENCH_OUT)/bin/$$peer benches/peers/load.c benches/peers/$$peer.c || exit 1; \
	done
	@for pair in redis:hiredis postgres:libpq; do \
		peer=$${pair%%:*}; lib=$${pair#*:}; rm -f $(BENCH_OUT)/bin/$$peer; \
		if pkg-config --exists $$lib; then \
			$(CC) $(BENCH_CFLAGS) $$(pkg-config --cflags $$lib) -o $(BENCH_OUT)/bin/$$peer \
				benches/peers/load.c benches/peers/$$peer.c $$(pkg-config --libs $$lib) || exit 1; \
		else echo "bench: no $$lib: $$peer is left out (make bench-peers installs it)"; fi; \
	done

bench-peers: ## install what bench compares with (Debian, Ubuntu)
	apt-get install -y redis-server memcached postgresql etcd-server libhiredis-dev libpq-dev pkg-config

bench-parts: ## criterion benches of the parts
	$(CARGO) bench --bench parts

instructions: ## check the instructions that a request costs
	$(PYTHON) tools/instructions.py

instructions-update:
	$(PYTHON) tools/instructions.py --update
