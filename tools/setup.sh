#!/usr/bin/env bash
# Checks the tools that building and testing need, and installs what is missing where apt-get can.
# Running it again changes nothing.
set -euo pipefail

missing=0
has() { command -v "$1" >/dev/null 2>&1; }

# install WHAT PACKAGE: WHAT is missing, Debian's PACKAGE has it.
install() {
    if has apt-get && [ "$(id -u)" = 0 ]; then
        echo "setup: $1 is missing, installing $2"
        apt-get -qq update
        DEBIAN_FRONTEND=noninteractive apt-get -qq install -y "$2" >/dev/null
    else
        echo "setup: please install $1 (Debian: apt-get install $2)" >&2
        missing=1
    fi
}

if has cargo; then
    wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    found=$(rustc --version | cut -d ' ' -f 2)
    if [ "$(printf '%s\n' "$wanted" "$found" | sort -V | head -n 1)" != "$wanted" ]; then
        echo "setup: Rust $wanted or newer is needed, this is $found: rustup update" >&2
        missing=1
    fi
else
    echo "setup: cargo is missing: https://rustup.rs has the installer" >&2
    missing=1
fi
has cc || install cc gcc
has c++ || install c++ g++
has python3 || install python3 python3
python3 -c 'import ensurepip, venv' 2>/dev/null || install "python3's venv" python3-venv

has cargo-nextest || echo "setup: no cargo-nextest; the tests run with cargo test instead"
has valgrind || echo "setup: no valgrind; the tests run without it"
[ "$missing" = 0 ] || exit 1
cargo fetch --quiet
echo "setup: ready"
