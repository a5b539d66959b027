#!/usr/bin/env bash
# Installs the packages of a directory in a root of their own, uses and removes them.
#   packaging/test-deb.sh DEBS ROOT
# Needs root and a way to Debian's packages; says so and ends well where there is none.
set -euo pipefail
debs=$(realpath "$1")
root=$(realpath -m "$2")
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-bookworm}")

skip() { echo "*** SKIPPED: the packages were not installed anywhere: $*"; exit 0; }
[ "$(id -u)" = 0 ] || skip "not root"
command -v debootstrap >/dev/null || skip "no debootstrap (make deb-tools)"

cleanup() { for at in proc dev/null dev/urandom; do umount -l "$root/$at" 2>/dev/null || true; done; }
trap cleanup EXIT
cleanup
rm -rf "$root"
debootstrap --variant=minbase "$suite" "$root" >"$root.log" 2>&1 || skip "debootstrap: $(tail -n 1 "$root.log")"
cp /etc/apt/apt.conf.d/99* "$root/etc/apt/apt.conf.d/" 2>/dev/null || true
cp /etc/resolv.conf "$root/etc/" 2>/dev/null || true
mount -t proc proc "$root/proc"
for node in null urandom; do [ -c "$root/dev/$node" ] && [ -w "$root/dev/$node" ] || { touch "$root/dev/$node"; mount --bind "/dev/$node" "$root/dev/$node"; }; done
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod +x "$root/usr/sbin/policy-rc.d"
mkdir "$root/debs" && cp "$debs"/*.deb "$root/debs/"

run() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive bash -euo pipefail -c "$1"; }
files() { run 'find / -xdev \( -path /proc -o -path /debs -o -path /var -o -path /tmp \) -prune -o \( -type f -o -type l \) -print | sort'; }

run 'apt-get -qq update && apt-get -qq install -y --no-install-recommends gcc libc6-dev pkgconf python3 systemd python3-minimal' >"$root.log" 2>&1 ||
    { tail -n 5 "$root.log"; exit 1; }
files >"$root.before"
run 'apt-get -qq install -y --no-install-recommends /debs/*.deb' >"$root.log" 2>&1 || { tail -n 20 "$root.log"; exit 1; }
echo "installed: $(run "dpkg-query -W -f='\${Package} \${Version}, ' '*baton*'")"

cat >"$root/tmp/use.sh" <<'USE'
set -euo pipefail
cd /tmp
getent passwd baton >/dev/null || { echo "no user baton"; exit 1; }
test -f /usr/lib/systemd/system/batond.service -o -f /lib/systemd/system/batond.service
systemctl is-enabled batond.service
batond --config /etc/baton/batond.toml --check-config | grep -q 'data = "/var/lib/baton"'
install -d -o baton -g baton -m 750 /var/lib/baton
setpriv --reuid=baton --regid=baton --clear-groups \
    batond --config /etc/baton/batond.toml --listen 127.0.0.1:0 >out 2>err &
server=$!
trap 'kill $server' EXIT
for _ in $(seq 100); do grep -qs listening out && break; sleep 0.1; done
export BATON_SERVER=$(awk '{print $NF}' out)
echo "from the command line" | baton append file_0
cat >app.c <<'C'
#include "rpc.h"
int main(int argc, char **argv) {
    rpc_conn_t rpc;
    if (argc < 2 || RPC_init(&rpc, 0, 10000, argv[1]) != 0) return 1;
    if (RPC_lock_acquire(&rpc) || RPC_append_file(&rpc, "file_0", "from C\n")) return 2;
    if (RPC_lock_release(&rpc)) return 3;
    return RPC_close(&rpc);
}
C
gcc -Wall -Werror app.c -o app $(pkg-config --cflags --libs baton)
./app "$BATON_SERVER"
python3 -c 'import baton
with baton.Connection() as conn, conn.lock() as grant: grant.append("file_0", "from Python\n")'
baton cat file_0 | diff - <(printf 'from the command line\nfrom C\nfrom Python\n')
baton lock true
test "$(stat -c %U /var/lib/baton/file_0)" = baton
reload=$(sed -n 's/^ExecReload=//p' /usr/lib/systemd/system/batond.service /lib/systemd/system/batond.service 2>/dev/null | head -n 1)
MAINPID=$server sh -c "$reload"
for _ in $(seq 100); do grep -q "configuration reread" err && break; sleep 0.1; done
grep -q "configuration reread" err || { echo "reload does nothing: $reload"; exit 1; }
USE
run 'bash /tmp/use.sh' || { cat "$root/tmp/err"; exit 1; }
echo "used: command line, C, Python, the service's user and settings"

run 'apt-get -qq purge -y "libbaton*" batond baton python3-baton' >"$root.log" 2>&1 || { tail -n 20 "$root.log"; exit 1; }
files >"$root.after"
left=$(comm -13 "$root.before" "$root.after" | grep -v '^/etc/\(passwd\|group\|shadow\|gshadow\|subuid\|subgid\)-\?$\|^/etc/\.pwd\.lock$\|__pycache__\|^/etc/ld.so.cache$' || true)
[ -z "$left" ] || { echo "left behind: $left"; exit 1; }
test -s "$root/var/lib/baton/file_0" || { echo "the data is gone with the package"; exit 1; }
echo "removed: nothing left but the data"
