#!/usr/bin/env bash
# The demo: a server on a free port, a C client and a Python client that append to file_0, ten
# clients that contend for the lock, and the file. Leaves nothing behind.
#
#   tools/demo.sh DIR        DIR has batond, baton and libbaton.so, as cargo builds them
set -euo pipefail

built=$(cd "$1" && pwd)
root=$(cd "$(dirname "$0")/.." && pwd)
scratch=$(mktemp -d)
server=
trap '[ -z "$server" ] || { kill "$server" && wait "$server" || true; }; rm -rf "$scratch"' EXIT

bold= plain=
[ ! -t 1 ] || { bold=$'\033[1m'; plain=$'\033[0m'; }
step() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }
show() { printf '$ %s\n' "$*"; "$@"; }

step "A server on a free port, over an empty directory"
"$built/batond" --listen 127.0.0.1:0 --data "$scratch/data" \
    >"$scratch/ready" 2>"$scratch/traces" &
server=$!
# It prints one line when it is ready; the line's last word is the address.
for _ in $(seq 500); do
    [ -s "$scratch/ready" ] && break
    kill -0 "$server" 2>/dev/null || { cat "$scratch/traces" >&2; exit 1; }
    sleep 0.02
done
cat "$scratch/ready"
address=$(awk 'NR == 1 { print $NF }' "$scratch/ready")
[ -n "$address" ] || { echo "demo: the server did not get ready" >&2; exit 1; }
port=${address##*:}

# A C program finds the library by its SONAME.
ln -s "$built/libbaton.so" "$scratch/libbaton.so.0"
compile() {
    show cc "$1" -I"$root/include" "$built/libbaton.so" -Wl,-rpath,"$scratch" -pthread -o "$2"
}

step "A C client takes the lock and appends to file_0"
compile "$root/c-examples/basic.c" "$scratch/basic"
show "$scratch/basic" 127.0.0.1 "$port" file_0 "hello from C
"

step "A Python client does the same"
cat >"$scratch/client.py" <<PYTHON
import baton

with baton.Connection("$address") as connection:
    with connection.lock() as grant:
        connection.append("file_0", "hello from Python\n")
        print("appended under token", grant.token)
PYTHON
cat "$scratch/client.py"
PYTHONPATH="$root/python" BATON_LIBRARY="$built/libbaton.so" python3 "$scratch/client.py"

step "The file is a file"
show cat "$scratch/data/file_0"
grep -qx 'hello from C' "$scratch/data/file_0"
grep -qx 'hello from Python' "$scratch/data/file_0"

step "Ten clients contend for the lock: 10 sections each, of 3 appends"
compile "$root/c-examples/contend.c" "$scratch/contend"
show "$scratch/contend" 127.0.0.1 "$port" 10 10

step "No section is interleaved with another"
show tail -n 9 "$scratch/data/file_0"
show wc -l "$scratch/data/file_0"

step "The server ends cleanly"
kill -TERM "$server"
wait "$server"
echo "batond exited with 0"
server=
