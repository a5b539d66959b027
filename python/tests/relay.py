"""A UDP relay between one client and the server, through which a test sees how far a call is.

That a waiter stands in the queue shows nowhere but on the wire; here a test waits for it instead
of sleeping.
"""

from __future__ import annotations

import selectors
import socket
import threading
from types import TracebackType

#: Kinds of message, the fourth byte of a datagram (docs/PROTOCOL.md).
GRANTED = 0x82
QUEUED = 0x83

_WAIT_S = 20


class Relay:
    """Passes datagrams on both ways until its block ends; `address` is for the client."""

    def __init__(self, server: str) -> None:
        host, port = server.rsplit(":", 1)
        self._server = (host, int(port))
        self._front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._front.bind(("127.0.0.1", 0))
        self._back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._back.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._front.getsockname()[1]}"
        self._client: tuple[str, int] | None = None
        self._seen: list[int] = []
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Relay:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # An empty datagram is none of the protocol: it ends the thread.
        self._front.sendto(b"", self._front.getsockname())
        self._thread.join()
        self._front.close()
        self._back.close()

    def wait_for(self, kind: int) -> None:
        """Until a reply of this kind has gone to the client."""
        with self._changed:
            assert self._changed.wait_for(lambda: kind in self._seen, _WAIT_S), self._seen

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._front, selectors.EVENT_READ)
            selector.register(self._back, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self._front:
                        datagram, self._client = self._front.recvfrom(2048)
                        if not datagram:
                            return
                        self._back.sendto(datagram, self._server)
                    elif self._client is not None:
                        datagram = self._back.recv(2048)
                        self._front.sendto(datagram, self._client)
                        with self._changed:
                            self._seen.append(datagram[3])
                            self._changed.notify_all()
