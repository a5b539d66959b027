"""The servers that are measured: how each is started, with which settings, and ended."""

from __future__ import annotations

import os
import pathlib
import shutil
import socket
import subprocess
import time

LOOPBACK = "127.0.0.1"


class Missing(Exception):
    """What cannot be measured because it is not installed."""


class Server:
    """A running server; `settings` says how it was started, for the report."""

    def __init__(self, command: list[str], settings: str, **options):
        self.settings = settings
        self.port = 0
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True, **options
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


def batond(paths, data: pathlib.Path, durability: str, *flags: str) -> Server:
    command = [
        str(paths.release / "batond"), "--listen", f"{LOOPBACK}:0", "--data", str(data),
        "--durability", durability, "--files", "1", *flags,
    ]  # fmt: skip
    server = Server(command, f"--durability {durability}", stdout=subprocess.PIPE)
    line = server.process.stdout.readline()
    if not line:
        raise RuntimeError("batond did not start: " + " ".join(command))
    server.port = int(line.strip().rsplit(":", 1)[1])
    return server


def echo(paths, data: pathlib.Path, threads: int) -> Server:
    data.mkdir(parents=True, exist_ok=True)
    command = [str(paths.tools / "echo"), str(threads), str(data / "echo")]
    server = Server(command, f"{threads} threads", stdout=subprocess.PIPE)
    server.port = int(server.process.stdout.readline())
    return server


def redis(paths, data: pathlib.Path, is_durable: bool) -> Server:
    need(paths, "redis", "redis-server")
    data.mkdir(parents=True)
    port = free_port()
    durable = ["--appendonly", "yes", "--appendfsync", "always"]
    settings = ["--save", "", *(durable if is_durable else ["--appendonly", "no"])]
    command = [
        "redis-server", "--port", str(port), "--bind", LOOPBACK, "--dir", str(data),
        "--daemonize", "no", *settings,
    ]  # fmt: skip
    server = Server(command, " ".join(settings), stdout=subprocess.DEVNULL)
    return ready(server, port)


def memcached(paths, data: pathlib.Path) -> Server:
    need(paths, "memcached", "memcached")
    port = free_port()
    settings = ["-t", "4", "-m", "64"]
    user = ["-u", "nobody"] if os.geteuid() == 0 else []
    # The TCP port only tells when it is ready.
    command = ["memcached", "-l", LOOPBACK, "-U", str(port), "-p", str(port), *settings, *user]
    return ready(Server(command, " ".join(settings), stdout=subprocess.DEVNULL), port)


def postgres(paths, data: pathlib.Path) -> Server:
    """As an unprivileged user: it refuses to run as root. synchronous_commit is the session's."""
    binaries = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    found = str(binaries[-1]) if binaries else shutil.which("postgres")
    if not found:
        raise Missing("postgres")
    need(paths, "postgres", found)
    data.mkdir(parents=True)
    prefix = []
    if os.geteuid() == 0:
        shutil.chown(data, "postgres")
        prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--"]
    initdb = str(pathlib.Path(found).resolve().with_name("initdb"))
    subprocess.run(
        [*prefix, initdb, "-D", str(data / "pg"), "-U", "baton", "-A", "trust", "-E", "UTF8"],
        check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/",
    )  # fmt: skip
    port = free_port()
    settings = ["-c", "shared_buffers=128MB", "-c", "fsync=on", "-c", "max_connections=100"]
    command = [
        *prefix, found, "-D", str(data / "pg"), "-p", str(port), "-h", LOOPBACK,
        "-k", str(data), *settings,
    ]  # fmt: skip
    return ready(Server(command, " ".join(settings), stdout=subprocess.DEVNULL, cwd="/"), port)


def etcd(paths, data: pathlib.Path) -> Server:
    need(paths, "etcd", "etcd")
    data.mkdir(parents=True)
    port, peer = free_port(), free_port()
    urls = f"http://{LOOPBACK}:{port}"
    command = [
        "etcd", "--data-dir", str(data), "--listen-client-urls", urls, "--advertise-client-urls",
        urls, "--listen-peer-urls", f"http://{LOOPBACK}:{peer}", "--initial-cluster",
        f"default=http://{LOOPBACK}:{peer}", "--initial-advertise-peer-urls",
        f"http://{LOOPBACK}:{peer}",
    ]  # fmt: skip
    return ready(Server(command, "one member, defaults", stdout=subprocess.DEVNULL), port)


def need(paths, tool: str, program: str) -> None:
    if shutil.which(program) is None:
        raise Missing(f"{program} is not installed")
    if not (paths.tools / tool).exists():
        raise Missing(f"the client for {tool} was not built: its library is not installed")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return probe.getsockname()[1]


def ready(server: Server, port: int, seconds: float = 20) -> Server:
    """Waits until something takes connections on the port."""
    server.port = port
    until = time.monotonic() + seconds
    while time.monotonic() < until and server.process.poll() is None:
        try:
            socket.create_connection((LOOPBACK, port), 1).close()
            # PostgreSQL listens a moment before it lets anybody in.
            time.sleep(0.3)
            return server
        except OSError:
            time.sleep(0.05)
    server.stop()
    raise RuntimeError(f"did not come up: {' '.join(map(str, server.process.args))}")
