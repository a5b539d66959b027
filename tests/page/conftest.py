"""A server with the page, a browser, and clients that work. See test_page.py."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

ROOT = Path(__file__).resolve().parent.parent.parent
TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
BUILT = Path(os.environ.get("BATON_BUILT", TARGET / "debug"))
SHOTS = ROOT / "build" / "page"
PATIENCE_S = 30
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
# As root there is no sandbox; the rest keeps the browser from the network.
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip

expect.set_options(timeout=PATIENCE_S * 1000)


class Server:
    """A running batond with `--http`."""

    def __init__(self, directory: Path, *flags: str) -> None:
        traces = directory / "traces"
        with traces.open("wb") as stderr:
            self.process = subprocess.Popen(
                [BUILT / "batond", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0",
                 "--data", directory / "data", *flags],
                stdout=subprocess.PIPE, stderr=stderr, text=True,
            )  # fmt: skip
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().split()[-1]
        found = re.search(r"http addr=(\S+)", traces.read_text())
        assert found, traces.read_text()
        self.url = f"http://{found.group(1)}"
        self.workers: list[subprocess.Popen[str]] = []

    def work(
        self, name: str, sections: int = 0, pause: float = 0.0, text: str = "x", host: str = ""
    ) -> subprocess.Popen[str]:
        """A client at work."""
        command = [sys.executable, Path(__file__).with_name("worker.py"), name, host]
        environment = os.environ | {
            "BATON_SERVER": self.address,
            "BATON_LIBRARY": str(BUILT / "libbaton.so"),
            "PYTHONPATH": str(ROOT / "python"),
        }
        worker = subprocess.Popen(
            [*command, str(sections), str(pause), text],
            env=environment, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.workers.append(worker)
        return worker

    def holder(self, name: str, **how: str) -> subprocess.Popen[str]:
        """A client that holds the lock."""
        worker = self.work(name, **how)  # type: ignore[arg-type]
        assert worker.stdout is not None
        assert worker.stdout.readline() == "holds\n"
        return worker

    def baton(self, *arguments: str) -> str:
        """The output of the command line."""
        command = [BUILT / "baton", arguments[0], "--server", self.address, *arguments[1:]]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def stop(self) -> None:
        """Ends it and all its clients."""
        for worker in self.workers:
            worker.kill()
            worker.communicate()
        self.process.terminate()
        self.process.wait(timeout=PATIENCE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    """A fresh server."""
    marker = request.node.get_closest_marker("flags")
    running = Server(tmp_path, *(marker.args if marker else ()))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One browser for all tests."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=BROWSER, args=FLAGS)
        yield running
        running.close()


class Watched:
    """A page, and all that must not happen on it."""

    def __init__(self, context: BrowserContext, server: Server) -> None:
        self.server = server
        url = server.url
        self.page: Page = context.new_page()
        self.wrong: list[str] = []
        self.page.set_default_timeout(PATIENCE_S * 1000)
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: self.wrong.append(f"dialog: {dialog.message}"))
        self.page.on("console", self._hear)
        self.page.on("request", lambda request: self._see(request.url, url))
        self.page.goto(url + "/")

    def _hear(self, message: object) -> None:
        kind, text = message.type, message.text  # type: ignore[attr-defined]
        # A server that was ended refuses or resets: what the page makes of it is a test of its own.
        gone = self.server.process.poll() is not None and "net::ERR_" in text
        if kind in ("error", "warning") and not gone:
            self.wrong.append(f"{kind}: {text}")

    def _see(self, asked: str, url: str) -> None:
        if not asked.startswith(url + "/"):
            self.wrong.append(f"asked for {asked}")

    def looks(self, more: int = 2) -> None:
        """Waits until the page has looked so many times more."""
        body = self.page.locator("body")
        now = int(body.get_attribute("data-looks") or 0)
        eventually(
            "the page has looked", lambda: int(body.get_attribute("data-looks") or 0) >= now + more
        )

    def shot(self, name: str) -> None:
        """A picture for people."""
        self.page.screenshot(path=SHOTS / f"{name}.png", full_page=True)


@pytest.fixture
def watch(browser: Browser, server: Server) -> Iterator[object]:
    """Opens the page in a window of its own; fails the test if something went wrong on it."""
    opened: list[tuple[BrowserContext, Watched]] = []

    def open_page(**how: object) -> Watched:
        context = browser.new_context(**how)  # type: ignore[arg-type]
        watched = Watched(context, server)
        opened.append((context, watched))
        return watched

    yield open_page
    for context, watched in opened:
        assert watched.page.evaluate("window.hacked") is None
        assert watched.wrong == []
        context.close()


def eventually(what: str, is_so: object) -> None:
    """Waits until it is so."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"still not so: {what}"
        time.sleep(0.05)
