#!/usr/bin/env bash
# Checks the tools that building and testing need, and installs with apt-get what is missing where
# that is possible. Running it again changes nothing.
set -euo pipefail

has() { command -v "$1" >/dev/null 2>&1; }
fail() { echo "setup: $*" >&2; exit 1; }

has cargo || fail "cargo is missing: https://rustup.rs has the installer"
wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
found=$(rustc --version | cut -d ' ' -f 2)
[ "$(printf '%s\n' "$wanted" "$found" | sort -V | head -n 1)" = "$wanted" ] ||
    fail "Rust $wanted or newer is needed, this is $found: rustup update"

# What cannot be done without, and what some tests use and skip otherwise.
required=()
optional=()
has cc || required+=(gcc)
has c++ || required+=(g++)
has python3 || required+=(python3)
has python3 && python3 -c 'import ensurepip, venv' 2>/dev/null || required+=(python3-venv)
has pkg-config || optional+=(pkg-config)
has valgrind || optional+=(valgrind)
has groff || optional+=(groff)
has chromium || has google-chrome || optional+=(chromium)
has promtool || optional+=(prometheus)

missing=("${required[@]}" "${optional[@]}")
if [ ${#missing[@]} -gt 0 ] && has apt-get && [ "$(id -u)" = 0 ]; then
    echo "setup: installing ${missing[*]}"
    if { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y \
        --no-install-recommends "${missing[@]}"; } >/dev/null; then
        required=()
        optional=()
    fi
fi
[ ${#required[@]} -eq 0 ] || fail "please install (Debian's names): ${required[*]}"
[ ${#optional[@]} -eq 0 ] || echo "setup: without ${optional[*]}, some tests are skipped"
has cargo-nextest || echo "setup: no cargo-nextest; the tests run with cargo test instead"
cargo fetch --quiet --locked
echo "setup: ready"
