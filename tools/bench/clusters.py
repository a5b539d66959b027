"""Three servers that are one cluster, of Baton and of etcd: how they are started, and how long a
client waits when the leader is killed."""

from __future__ import annotations

import base64
import http.client
import json
import os
import pathlib
import subprocess
import sys
import threading
import time
from typing import Callable, Iterator

import procs
from procs import LOOPBACK, Server

SIZE = 3
# Nobody waits longer than this for a leader, in seconds.
PATIENCE = 20.0
# How long a client of etcd waits for a put before it makes it anew, in seconds.
PUT_WAIT = 0.1


class Cluster:
    """Running servers; one that was killed can be started again on its directory."""

    def __init__(self, commands: list[list[str]], ports: list[int], settings: str):
        self.commands, self.ports, self.settings = commands, ports, settings
        self.address = ",".join(f"{LOOPBACK}:{port}" for port in ports)
        self.servers = [self.begin(at) for at in range(SIZE)]
        try:
            for at in range(SIZE):
                self.wait(f"server {at} does not come up", lambda: self.ask(at))
        except RuntimeError:
            self.stop()
            raise

    def begin(self, at: int) -> Server:
        server = Server(self.commands[at], self.settings, stdout=subprocess.DEVNULL)
        server.port = self.ports[at]
        return server

    def leader(self) -> int:
        def find() -> list[int]:
            asked = [self.ask(at) for at in range(SIZE)]
            return [at for at, found in enumerate(asked) if found and found[0] == found[1]]

        return self.wait("nobody leads", find)[0]

    def restart(self, at: int) -> None:
        """Ends as soon as the server knows who leads."""
        self.servers[at].stop()
        self.servers[at] = self.begin(at)
        self.wait(f"server {at} does not come back", lambda: self.ask(at))

    def stop(self) -> None:
        for server in self.servers:
            server.stop()

    def wait(self, otherwise: str, condition: Callable):
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            if found := condition():
                return found
            time.sleep(0.02)
        raise RuntimeError(f"{self.commands[0][0]}: {otherwise}")

    def ask(self, at: int) -> tuple | None:
        """Who a server says that it is, and who leads; None if it does not know."""
        raise NotImplementedError

    def calls(self, lost: int) -> Iterator[Callable[[], object]]:
        """What a client does over and over while server `lost` is killed. A call that was not
        acknowledged raises OSError."""
        raise NotImplementedError


class Baton(Cluster):
    def __init__(self, paths, data: pathlib.Path):
        self.paths = paths
        clients, peers = free_ports(), free_ports()
        members = ",".join(f"{at + 1}={LOOPBACK}:{port}" for at, port in enumerate(peers))
        super().__init__([
            [str(paths.release / "batond"), "--listen", f"{LOOPBACK}:{clients[at]}", "--node",
             str(at + 1), "--cluster", members, "--data", str(data / str(at + 1)), "--files", "1"]
            for at in range(SIZE)
        ], clients, f"{SIZE} servers, defaults")  # fmt: skip

    def ask(self, at: int) -> tuple | None:
        address = f"{LOOPBACK}:{self.ports[at]}"
        # A server that does not lead says who does, and it is the leader that answers.
        done = subprocess.run(
            [str(self.paths.release / "baton"), "status", "--server", address, "--json"],
            capture_output=True, text=True, check=False,
            env={**os.environ, "BATON_TIMEOUT_MS": "1000"},
        )  # fmt: skip
        return (address, json.loads(done.stdout)["server"]) if done.returncode == 0 else None

    def calls(self, lost: int) -> Iterator[Callable[[], object]]:
        """Sections of a client that is told of all servers."""
        os.environ.setdefault("BATON_LIBRARY", str(self.paths.release / "libbaton.so"))
        sys.path.insert(0, str(self.paths.root / "python"))
        import baton

        with baton.Connection(self.address) as client:
            while True:
                yield client.acquire
                yield lambda: client.append("file_0", b"x" * 32)
                yield client.release


class Etcd(Cluster):
    def __init__(self, paths, data: pathlib.Path):
        procs.need(paths, "etcd", "etcd")
        data.mkdir(parents=True)
        clients, peers = free_ports(), free_ports()
        url = f"http://{LOOPBACK}"
        members = ",".join(f"m{at}={url}:{port}" for at, port in enumerate(peers))
        super().__init__([
            ["etcd", "--name", f"m{at}", "--data-dir", str(data / f"m{at}"), "--initial-cluster",
             members, "--listen-client-urls", f"{url}:{clients[at]}", "--advertise-client-urls",
             f"{url}:{clients[at]}", "--listen-peer-urls", f"{url}:{peers[at]}",
             "--initial-advertise-peer-urls", f"{url}:{peers[at]}"]
            for at in range(SIZE)
        ], clients, f"{SIZE} members, defaults")  # fmt: skip

    def ask(self, at: int) -> tuple | None:
        try:
            status = self.post(at, "maintenance/status", {}, 1)
        except OSError:
            return None
        return (status["header"]["member_id"], status["leader"]) if "leader" in status else None

    def calls(self, lost: int) -> Iterator[Callable[[], object]]:
        """Puts at a server that is not killed."""
        key, value = (base64.b64encode(text).decode() for text in (b"file_0", b"x" * 32))
        put = {"key": key, "value": value}
        while True:
            yield lambda: self.post((lost + 1) % SIZE, "kv/put", put, PUT_WAIT)

    def post(self, at: int, path: str, body: dict, seconds: float) -> dict:
        connection = http.client.HTTPConnection(LOOPBACK, self.ports[at], timeout=seconds)
        try:
            connection.request("POST", f"/v3/{path}", json.dumps(body))
            answer = connection.getresponse()
            if answer.status != 200:
                raise OSError(f"status {answer.status}")
            return json.loads(answer.read())
        except (http.client.HTTPException, ValueError) as error:
            raise OSError(str(error)) from error
        finally:
            connection.close()


def free_ports() -> list[int]:
    """Ports that differ; nobody else is likely to take them until the servers do."""
    found: set[int] = set()
    while len(found) < SIZE:
        found.add(procs.free_port())
    return sorted(found)


def failover(cluster: Cluster, load_seconds: float) -> float:
    """Kills the leader under a client that makes one call after the other; milliseconds from then
    to the first acknowledgement of a call that was made after it."""
    lost = cluster.leader()
    killed = threading.Event()
    acknowledged = threading.Event()
    at: dict[str, float] = {}

    def work() -> None:
        calls = cluster.calls(lost)
        for call in calls:
            is_late = killed.is_set()
            try:
                call()
            except OSError:
                continue
            if is_late:
                at["acknowledged"] = time.monotonic()
                acknowledged.set()
                calls.close()
                return

    client = threading.Thread(target=work, daemon=True)
    client.start()
    time.sleep(load_seconds)
    begun = time.monotonic()
    cluster.servers[lost].process.kill()
    killed.set()
    if not acknowledged.wait(PATIENCE):
        raise RuntimeError(f"{cluster.settings}: no acknowledgement after the leader was killed")
    client.join()
    cluster.restart(lost)
    return (at["acknowledged"] - begun) * 1000
