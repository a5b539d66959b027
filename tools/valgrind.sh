#!/usr/bin/env bash
# Contending C clients under valgrind's memcheck, against a server that is not.
#
#   tools/valgrind.sh DIR        DIR has batond and libbaton.so, as cargo builds them
set -euo pipefail

command -v valgrind >/dev/null || { echo "valgrind.sh: valgrind is missing" >&2; exit 1; }
built=$(cd "$1" && pwd)
root=$(cd "$(dirname "$0")/.." && pwd)
scratch=$(mktemp -d)
mkfifo "$scratch/ready"
"$built/batond" --listen 127.0.0.1:0 --data "$scratch/data" >"$scratch/ready" &
server=$!
trap 'kill "$server" && wait "$server" || true; rm -rf "$scratch"' EXIT
read -r line <"$scratch/ready"
port=${line##*:}

ln -s "$built/libbaton.so" "$scratch/libbaton.so.0"
cc -g "$root/c-examples/contend.c" -I"$root/include" "$built/libbaton.so" \
    -Wl,-rpath,"$scratch" -pthread -o "$scratch/contend"
valgrind --quiet --error-exitcode=99 --leak-check=full --show-leak-kinds=definite,indirect \
    "$scratch/contend" 127.0.0.1 "$port" 16 50
