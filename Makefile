# Baton's tasks; `make` alone lists them. Rust is built by cargo, this file calls it. More targets:
# mk/*.mk. Everything here uses cargo's dev profile, so that one build serves the demo and the
# tests; what is installed is built by `make build`.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
.NOTPARALLEL:

CARGO ?= cargo
BUILD_DIR := $(or $(CARGO_TARGET_DIR),target)
NEXTEST := $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo yes)

include $(wildcard mk/*.mk)

.PHONY: help setup build demo test test-rust verify fix doc clean

help: ## list the targets
	@echo 'Targets:'
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | \
	    awk -F ':.*## ' '{ printf "  %-14s %s\n", $$1, $$2 }'

setup: ## check the tools and install what is missing
	@tools/setup.sh

build: ## build library, server and command line for use (release)
	$(CARGO) build --release

demo: setup ## show a server, C and Python clients, and ten clients that contend
	$(CARGO) build
	@tools/demo.sh $(BUILD_DIR)/debug

test: setup doc test-rust test-python test-page test-packages fuzz-short $(if $(CI),sim-ci) ## run every test: Rust, C, Python, short torture, short fuzz

test-rust:
ifeq ($(NEXTEST),yes)
	$(CARGO) nextest run --no-fail-fast
	$(CARGO) test --doc
else
	$(CARGO) test --no-fail-fast
endif

verify: ## check without changing anything: format, lints, documentation, unit tests, headers
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	@$(MAKE) doc
	$(CARGO) test --quiet --lib
	$(CARGO) test --quiet --test architecture --test headers

fix: ## format, apply what the lints suggest, regenerate the headers
	$(CARGO) clippy --all-targets --fix --allow-dirty --allow-staged
	$(CARGO) fmt
	@$(MAKE) headers

doc: ## build the documentation of the Rust crate
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --quiet --no-deps

clean: ## remove everything that was built
	$(CARGO) clean
	rm -rf build dist fuzz/target
