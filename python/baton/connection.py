"""Connections to the server: thin over the C library.

Every call goes through :meth:`Connection._call`, which turns a status into an exception.
"""

from __future__ import annotations

import ctypes
import math
import os
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ctypes import byref
from types import TracebackType
from typing import Any

from baton._library import RpcConn, library
from baton.errors import (
    BatonError,
    InvalidArgument,
    LockLost,
    NotHolder,
    NotOpen,
    OutcomeUnknown,
    Status,
    WouldBlock,
    error_for,
)
from baton.grant import Data, Grant

__all__ = ["Connection"]


class Connection:
    """A session with the server, and at most one hold on the lock.

    `server` is a host name or IPv4 address with an optional port (10000 if left out), or several
    separated by commas; without it, what the environment variable ``BATON_SERVER`` says, else
    ``localhost:10000``. `source_port` is the local UDP port, 0 for any. Environment variable
    ``BATON_TIMEOUT_MS`` (30000) is how long a call tries to reach a server before it gives up.

    >>> from baton import Connection
    >>> with Connection() as conn:
    ...     with conn.lock() as grant:
    ...         grant.append("file_0", "hello ")
    ...         grant.append("file_0", "world")
    ...     conn.read("file_0")
    b'hello world'

    Leaving the ``with`` block of a connection closes it. Closing publishes what a section still
    has, as in C; leaving the block by an exception discards it first.

    **Threads.** The lock belongs to the connection, not to a thread. Calls of several threads on
    one connection run one after the other (one that waits for the lock keeps the others waiting),
    and `lock` also keeps its threads' blocks apart; `acquire` does not. For work side by side, use
    a connection per thread. Other Python threads run while a call waits.

    **Fork.** In a forked child every call on a connection of the parent raises `NotOpen` and leaves
    the parent's session alone; open a new connection there.

    **Ctrl-C** ends a wait for the lock in the main thread, which leaves the queue. Any other
    call in progress ends first.
    """

    # So that __del__ works on an object whose __init__ got no further than its parameters.
    _rpc = RpcConn(sd=-1)

    def __init__(self, server: str | None = None, source_port: int = 0) -> None:
        self.server = server or os.environ.get("BATON_SERVER") or "localhost:10000"
        self._rpc = RpcConn(sd=-1)
        self._pid = os.getpid()
        self._grant: Grant | None = None
        # Held by the thread that is inside `lock`, whose identity is `_inside`.
        self._turn = threading.Lock()
        self._inside: int | None = None
        if not 0 <= source_port <= 65535:
            raise InvalidArgument(f"source_port {source_port} is not between 0 and 65535")
        address = _c_string(self.server, "server")
        self._call(
            library.RPC_init, f"connect to {self.server}", source_port, _DEFAULT_PORT, address
        )

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<baton.Connection to {self.server}, client {self.client_id}, {state}>"

    # Holding the lock

    def acquire(self, timeout: float | None = None) -> Grant:
        """Take the lock, waiting in the server's queue, first come first served.

        Waits without limit as long as a server answers, or at most `timeout` seconds, after which
        it leaves the queue and raises `WouldBlock`. When the connection holds the lock already,
        nothing changes and the same grant is returned.

        The grant is given back by its `release` or `abort`, or by a ``with`` block as with `lock`:

        >>> from baton import Connection
        >>> with Connection() as conn:
        ...     grant = conn.acquire(timeout=5)
        ...     grant.append("file_1", b"x")
        ...     grant.release()
        """
        held = self._grant
        try:
            self._wait(timeout)
            return self._granted()
        except LockLost:
            self._grant = None
            raise
        except BatonError:
            raise
        except BaseException:
            # Ctrl-C came while the call was waiting: nobody will know of a grant it brought.
            if held is None:
                self._discard()
            raise

    def try_acquire(self) -> Grant | None:
        """Take the lock if it is free now and nobody waits for it; else return ``None``.

        >>> from baton import Connection
        >>> with Connection() as conn, Connection() as other:
        ...     grant = conn.try_acquire()
        ...     print(other.try_acquire())
        None
        """
        try:
            self._call(library.RPC_try_acquire, "acquire the lock")
        except WouldBlock:
            return None
        except LockLost:
            self._grant = None
            raise
        return self._granted()

    def cancel(self) -> None:
        """End another thread's wait for the lock on this connection.

        Its `acquire` or `lock` leaves the queue and raises `WouldBlock`, unless the lock is granted
        first. When nobody waits, nothing happens, and nothing is remembered.

        >>> import threading, time
        >>> from baton import Connection, WouldBlock
        >>> with Connection() as holder, Connection() as waiter, holder.lock():
        ...     def call_off():
        ...         time.sleep(0.1)
        ...         waiter.cancel()
        ...     threading.Thread(target=call_off).start()
        ...     try:
        ...         waiter.acquire()
        ...     except WouldBlock:
        ...         print("called off")
        called off
        """
        self._call(library.RPC_cancel, "cancel")

    @contextmanager
    def lock(self, timeout: float | None = None) -> Iterator[Grant]:
        """Hold the lock for a ``with`` block, or as a decorator for each call of a function.

        A normal end publishes what the block appended, all of it or (by an exception) nothing:
        `LockLost` means discarded, `OutcomeUnknown` that no answer came. A block left by an
        exception publishes nothing, and that exception goes on. Blocks do not nest: the second
        `lock` of a thread on one connection is a `RuntimeError`. `timeout` is that of `acquire`.

        >>> from baton import Connection
        >>> with Connection() as conn:
        ...     try:
        ...         with conn.lock(timeout=5) as grant:
        ...             grant.append("file_2", "half of a ")
        ...             raise KeyError("the other half")
        ...     except KeyError:
        ...         conn.read("file_2")
        b''

        As a decorator; the function appends by the connection, or asks it for its `token`:

        >>> with Connection() as conn:
        ...     @conn.lock(timeout=5)
        ...     def count(text):
        ...         conn.append("file_3", text)
        ...         return conn.token is not None
        ...     count("one "), count("two")
        ...     conn.read("file_3")
        (True, True)
        b'one two'
        """
        if os.getpid() != self._pid:
            raise NotOpen("this connection was opened by another process: open one here")
        if self._inside == threading.get_ident():
            raise RuntimeError("this thread is inside lock() on this connection already")
        waiting_since = time.monotonic()
        wait_s = -1.0
        if timeout is not None and timeout != math.inf:
            wait_s = min(_milliseconds(timeout) / 1000, threading.TIMEOUT_MAX)
        if not self._turn.acquire(timeout=wait_s):
            raise WouldBlock("another thread of this process holds the lock by this connection")
        self._inside = threading.get_ident()
        try:
            if self._grant is not None:
                raise RuntimeError("this connection holds the lock: release or abort it first")
            if timeout is not None:
                timeout = max(0.0, timeout - (time.monotonic() - waiting_since))
            with self.acquire(timeout) as grant:
                yield grant
        finally:
            self._inside = None
            self._turn.release()

    def release(self) -> None:
        """Publish the section and give the lock back; on return it is on stable storage.

        `LockLost`: discarded, nothing of it appears. `OutcomeUnknown`: look before trying again.
        """
        self._give_back(library.RPC_lock_release, "release the lock")

    def abort(self) -> None:
        """Discard the section and give the lock back."""
        self._give_back(library.RPC_lock_abort, "abort")

    def renew(self) -> None:
        """Renew the lease. Every request of a holder does so; this is for pauses between them."""
        self._call(library.RPC_renew, "renew the lease")

    @property
    def token(self) -> int | None:
        """The fencing token of the lock held, greater than every earlier one; else ``None``.

        Hand it to whatever is guarded by the lock beside Baton's own files, and have it refuse
        a token less than the greatest it has seen.
        """
        out = ctypes.c_uint64()
        status = library.RPC_fencing_token(byref(self._rpc), byref(out))
        return out.value if status == Status.OK else None

    @property
    def lease_remaining(self) -> float:
        """Seconds for which the lock is surely still held; 0.0 when not.

        Measured from before the request that renewed it was sent, so never longer than the server
        believes. Past it the lock is still held unless somebody waits.
        """
        return max(0, int(library.RPC_lease_remaining_ms(byref(self._rpc)))) / 1000

    # The files

    def append(self, name: str, data: Data) -> None:
        """Append to a file under the lock; it appears there when the section is released.

        Text is encoded as UTF-8; bytes go as they are, NULs included, in any length up to the
        server's section limit. An append never creates a file.

        >>> from baton import Connection
        >>> with Connection() as conn:
        ...     conn.append("file_0", "without the lock")
        Traceback (most recent call last):
            ...
        baton.errors.NotHolder: append to 'file_0': this connection does not hold the lock ...
        """
        content = data.encode() if isinstance(data, str) else bytes(memoryview(data))
        self._call(
            library.RPC_append_bytes,
            f"append to {name!r}",
            _c_string(name, "file name"),
            content,
            len(content),
        )

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Read the published bytes of a file, with or without holding the lock.

        From `offset` to the end, or at most `length` bytes; empty at or past the end.

        >>> from baton import Connection
        >>> with Connection() as conn:
        ...     with conn.lock() as grant:
        ...         grant.append("file_3", b"0123456789")
        ...     conn.read("file_3", offset=2, length=5)
        b'23456'
        """
        if not 0 <= offset < 2**64:
            raise InvalidArgument(f"offset {offset} is not between 0 and 2**64 - 1")
        if length is not None and length < 0:
            raise InvalidArgument(f"length {length} is negative")
        c_name = _c_string(name, "file name")
        content = bytearray()
        count = ctypes.c_size_t()
        while length is None or len(content) < length:
            wanted = _READ_SIZE if length is None else min(_READ_SIZE, length - len(content))
            buffer = ctypes.create_string_buffer(wanted)
            position = offset + len(content)
            self._call(
                library.RPC_read_file,
                f"read {name!r}",
                c_name,
                position,
                buffer,
                wanted,
                byref(count),
            )
            content += buffer.raw[: count.value]
            if count.value < wanted:
                break
        return bytes(content)

    # The session

    @property
    def client_id(self) -> int:
        """The number the server gave this client."""
        return self._rpc.client_id

    @property
    def last_message(self) -> str:
        """What the newest call said: "Connected!", "Disconnected!", "ok", or why it failed."""
        return (library.RPC_last_message(byref(self._rpc)) or b"").decode(errors="replace")

    @property
    def closed(self) -> bool:
        """Whether the connection was closed."""
        return self._rpc.sd < 0

    def close(self) -> None:
        """End the session; a section that is open is published, as by `release`.

        The socket is freed in any case. Only a failure to publish is raised: a close that has
        nothing to lose never fails. Closing again does nothing.
        """
        if self.closed:
            return
        held, self._grant = self._grant, None
        try:
            self._call(library.RPC_close, "close")
        except NotOpen:
            pass  # In a forked child: the session is the parent's.
        except BatonError:
            if held is not None:
                raise

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._discard(error)
        self.close()

    def __del__(self) -> None:
        # A forked child's copy is not its to close.
        if not self.closed and os.getpid() == self._pid:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, stacklevel=2, source=self)
            self._discard()
            self.close()

    # Inside

    def _call(self, function: Any, what: str, *arguments: object) -> None:
        status: int = function(byref(self._rpc), *arguments)
        if status == Status.OK:
            return
        errno = ctypes.get_errno()
        has_details = status in _STATUSES_WITH_DETAILS
        text = self.last_message if has_details else library.RPC_strerror(status).decode()
        raise error_for(status, f"{what}: {text}", errno)

    def _wait(self, timeout: float | None) -> None:
        """Take the lock or a place in the queue. In the main thread, which has to handle Ctrl-C,
        another thread does the waiting."""
        if timeout is None or timeout == math.inf:
            call, arguments = library.RPC_lock_acquire, []
        else:
            call, arguments = library.RPC_acquire_timeout, [_milliseconds(timeout)]
        if arguments == [0] or threading.current_thread() is not threading.main_thread():
            return self._call(call, "acquire the lock", *arguments)
        with suppress(WouldBlock):
            return self._call(library.RPC_try_acquire, "acquire the lock")
        failures: list[BatonError] = []
        gate, done = threading.Lock(), threading.Event()
        is_begun = is_called_off = False

        def wait() -> None:
            nonlocal is_begun
            with gate:
                if is_called_off:
                    return
                is_begun = True
            try:
                self._call(call, "acquire the lock", *arguments)
            except BatonError as error:
                failures.append(error)
            finally:
                done.set()

        try:
            # Ctrl-C may come as early as in here, where it is not known whether the thread runs.
            threading.Thread(target=wait, name="baton-wait", daemon=True).start()
            done.wait()
        finally:
            with gate:
                is_called_off = True
            while is_begun and not done.is_set():
                library.RPC_cancel(byref(self._rpc))
                done.wait(0.01)
        if failures:
            raise failures[0]

    def _granted(self) -> Grant:
        token = self.token
        if token is None:
            raise NotHolder("the lock was lost as soon as it was granted (nothing was done)")
        if self._grant is None or self._grant.token != token:
            self._grant = Grant(self, token)
        return self._grant

    def _give_back(self, function: Any, what: str) -> None:
        try:
            self._call(function, what)
        except (LockLost, OutcomeUnknown):
            self._grant = None
            raise
        self._grant = None

    def _discard(self, reason: BaseException | None = None) -> None:
        """Abort what is held, if anything, because of `reason`, which matters more than whether it
        succeeds: what is not released is never published."""
        if self._grant is None and self.token is None:
            return
        try:
            self.abort()
        except BatonError as error:
            if reason is not None and hasattr(reason, "add_note"):
                reason.add_note(f"While giving the lock back: {error}")
        finally:
            self._grant = None


def _c_string(text: str, what: str) -> bytes:
    """UTF-8 for a C string, in which a NUL would silently be the end."""
    encoded = text.encode()
    if b"\0" in encoded:
        raise InvalidArgument(f"{what} {text!r} contains a NUL")
    return encoded


def _milliseconds(seconds: float) -> int:
    """Rounded up, so that a short wait does not become none."""
    if not seconds >= 0:
        raise InvalidArgument(f"timeout {seconds} is not a number of seconds from 0")
    return min(math.ceil(seconds * 1000), _TIMEOUT_MS_MAX)


_DEFAULT_PORT = 10000
_STATUSES_WITH_DETAILS = {
    Status.INVALID_ARGUMENT,
    Status.SYSTEM_ERROR,
    Status.REFUSED,
    Status.INTERNAL,
}
_READ_SIZE = 64 * 1024
# What a C int can hold: 24 days.
_TIMEOUT_MS_MAX = 2**31 - 1
