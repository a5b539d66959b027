# Hunts for defects that ordinary tests miss. All but loom want tools that `make setup` does not
# require; where one is missing, the target says so, and in CI goes on without it.
#
#   make fuzz TIME=600            seconds for each target
#   make fuzz TARGET=wire_reply   one target
#   make loom                     every interleaving of the spin lock's users
#   make asan                     unit tests with the address sanitizer
#   make valgrind                 contending C clients under memcheck

TIME ?= 60
TARGET ?= $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))
SANITIZED := x86_64-unknown-linux-gnu

HAS_NIGHTLY := $(shell $(CARGO) +nightly --version >/dev/null 2>&1 && echo yes)
HAS_FUZZ := $(shell $(CARGO) fuzz --version >/dev/null 2>&1 && echo yes)

.PHONY: fuzz fuzz-short loom asan valgrind

fuzz: ## fuzz the decoders for TIME=60 seconds each
ifneq ($(HAS_NIGHTLY)$(HAS_FUZZ),yesyes)
	@echo 'make fuzz needs a nightly toolchain and cargo-fuzz:'
	@echo '    rustup toolchain install nightly && cargo install cargo-fuzz'
	@echo 'without them, tests/wire_properties.rs tries the same on a million datagrams'
	@exit 1
else
	for target in $(TARGET); do \
	    mkdir -p fuzz/corpus/$$target fuzz/seeds/$$target; \
	    $(CARGO) +nightly fuzz run $(FUZZ_FLAGS) $$target fuzz/corpus/$$target fuzz/seeds/$$target \
	        -- -max_total_time=$(TIME) -max_len=1400 -verbosity=0 -print_funcs=0; \
	done
endif

# The short form in `make test`; without optimisation, because it would compile for longer than run.
fuzz-short:
ifneq ($(HAS_NIGHTLY)$(HAS_FUZZ),yesyes)
	@echo '*** SKIPPED: no fuzzing without a nightly toolchain and cargo-fuzz (see make fuzz)'
else
	@$(MAKE) fuzz TIME=5 FUZZ_FLAGS=--dev
endif

loom: ## check the spin lock under every interleaving
	RUSTFLAGS='--cfg loom' CARGO_TARGET_DIR=target/loom $(CARGO) test --release --lib loom

asan: ## run the unit tests with the address sanitizer (nightly)
	RUSTFLAGS='-Zsanitizer=address' CARGO_TARGET_DIR=target/asan \
	    $(CARGO) +nightly test --lib --target $(SANITIZED)

valgrind: ## run contending C clients under valgrind
	$(CARGO) build
	tools/valgrind.sh $(BUILD_DIR)/debug
