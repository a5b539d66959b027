"""Stops, continues and kills the processes of `baton lock`, and cuts its network, at random, while
commands run under the lock; then looks whether two commands ever ran at once.

Arguments: the program baton, the server's address, seconds, a seed. Works in the current directory.
Goes on beyond the seconds until enough was done to whoever had a command running under the lock.
Each command writes its fencing token over and over, deaf to SIGTERM: tokens may only rise.
"""

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

BATON, SERVER, SECONDS, SEED = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
CLIENTS = 4
# What a killed client leaves behind ends sooner than this, in seconds.
PATIENCE_S = 20
# How often, at least, one that has a command running is killed, and stopped or cut off; and after
# how many seconds that has failed.
STRUCK_MIN = 3
LIMIT_S = 120
MARK = "trap '' TERM; while :; do echo $BATON_LOCK_TOKEN; done >> marks"
COMMANDS = [
    MARK,
    # Two processes; the first goes on when its parent is gone.
    f"({MARK}) & {MARK}",
    # One that ends by itself, and leaves something behind that does not for a while.
    "i=0; while [ $i -lt 300 ]; do i=$((i+1)); echo $BATON_LOCK_TOKEN; done >> marks",
    "(i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo $BATON_LOCK_TOKEN; done >> marks) &",
]


class Client:
    """Runs `baton lock` again and again, through a relay of its own."""

    def __init__(self, number: int) -> None:
        self.chance = random.Random(SEED * 100 + number)
        self.relay = subprocess.Popen(
            [BATON, "proxy", "127.0.0.1:0", SERVER],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        line = self.relay.stdout.readline()
        self.address = re.search(r"127\.0\.0\.1:\d+", line)[0]
        self.front: subprocess.Popen[bytes] | None = None
        self.runs = 0
        self.codes: dict[int, int] = {}
        self.thread = threading.Thread(target=self.work)

    def work(self) -> None:
        while not is_over.is_set():
            environment = {**os.environ, "BATON_SERVER": self.address, "BATON_TIMEOUT_MS": "2000"}
            self.front = subprocess.Popen(
                [BATON, "lock", "sh", "-c", self.chance.choice(COMMANDS)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            code = self.front.wait()
            self.codes[code] = self.codes.get(code, 0) + 1
            self.runs += 1

    def guards(self) -> list[int]:
        """The guard, if there is one; anything else that the front has is the command's."""
        pid = self.front.pid if self.front is not None else 0
        return [child for child in children(pid) if comm(child) in ("baton-guard", "baton")]


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def send(pid: int, what: signal.Signals) -> None:
    try:
        os.kill(pid, what)
    except ProcessLookupError:
        pass


def storm(clients: list[Client], chance: random.Random) -> tuple[dict[str, int], bool]:
    """Does something bad every few milliseconds. Counts what, and says whether it was enough."""
    done: dict[str, int] = {}
    struck = {signal.SIGKILL: 0, signal.SIGSTOP: 0}
    to_continue: list[tuple[float, int]] = []
    begun = time.monotonic()
    while (passed_s := time.monotonic() - begun) < SECONDS or min(struck.values()) < STRUCK_MIN:
        if passed_s > SECONDS + LIMIT_S:
            break
        time.sleep(chance.expovariate(1 / 0.2))
        for due, pid in [entry for entry in to_continue if entry[0] < time.monotonic()]:
            to_continue.remove((due, pid))
            send(pid, signal.SIGCONT)
        # Most often the one that has the lock.
        holders = [client for client in clients if any(map(children, client.guards()))]
        client = chance.choice(holders if holders and chance.random() < 0.7 else clients)
        front = client.front
        if front is None or front.poll() is not None:
            continue
        guards = client.guards()
        targets = {"front": [front.pid], "guard": guards, "both": [front.pid, *guards]}
        targets["relay"] = [client.relay.pid]
        who = chance.choice(list(targets))
        how = signal.SIGKILL if who != "relay" and chance.random() < 0.3 else signal.SIGSTOP
        pids = targets[who]
        chance.shuffle(pids)
        for pid in pids:
            send(pid, how)
            if how == signal.SIGSTOP:
                pause_s = chance.choice([0.05, 0.3, 1.5, 3])
                to_continue.append((time.monotonic() + pause_s, pid))
        done[f"{how.name} {who}"] = done.get(f"{how.name} {who}", 0) + 1
        struck[how] += client in holders and bool(pids)
    for _, pid in to_continue:
        send(pid, signal.SIGCONT)
    return done, min(struck.values()) >= STRUCK_MIN


def comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def cwd(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return ""


def processes_here() -> list[int]:
    """Whatever works in the current directory, this process apart."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in pids if cwd(pid) == os.getcwd() and pid != os.getpid()]


def main() -> int:
    clients = [Client(number) for number in range(CLIENTS)]
    for client in clients:
        client.thread.start()
    done, is_enough = storm(clients, random.Random(SEED))
    is_over.set()
    for client in clients:
        # Whoever runs for ever is ended as a person would.
        while client.thread.is_alive():
            front = client.front
            if front is not None and front.poll() is None:
                send(front.pid, signal.SIGKILL)
            client.thread.join(0.2)
        client.relay.kill()
        client.relay.wait()
    Path("marks").touch()
    deadline = time.monotonic() + PATIENCE_S
    while (left := processes_here()) and time.monotonic() < deadline:
        time.sleep(0.01)
    for pid in left:
        send(pid, signal.SIGKILL)
    tokens = [int(line) for line in Path("marks").read_text().split()]
    wrong = [n for n in range(1, len(tokens)) if tokens[n] < tokens[n - 1]]
    codes: dict[int, int] = {}
    for client in clients:
        for code, count in client.codes.items():
            codes[code] = codes.get(code, 0) + count
    print(f"seed {SEED}: {len(set(tokens))} commands under the lock, {sum(codes.values())} runs")
    print(f"endings {dict(sorted(codes.items()))}; done {dict(sorted(done.items()))}")
    if not is_enough:
        print(f"hardly anything was done to whoever had a command running, in {LIMIT_S} s more")
    if left:
        print(f"{len(left)} processes of commands are left")
    for n in wrong[:20]:
        print(f"line {n}: token {tokens[n]} after {tokens[n - 1]}")
    return 1 if wrong or left or not is_enough or len(set(tokens)) < 3 else 0


is_over = threading.Event()
sys.exit(main())
