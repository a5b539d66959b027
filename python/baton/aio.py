"""Baton for :mod:`asyncio`: the same connection, whose calls do not hold up the event loop.

>>> import asyncio
>>> from baton import aio
>>> async def main():
...     async with await aio.connect() as conn:
...         async with conn.lock(timeout=5) as grant:
...             await grant.append("file_0", "hello")
...         return await conn.read("file_0")
>>> asyncio.run(main())
b'hello'

Each call runs in a thread of the connection's own; calls of several tasks on one connection run one
after the other.

**Cancellation** (``task.cancel()``, ``asyncio.timeout``) of a task that waits for the lock gives up
its place in the queue. A grant that was on its way is given back; no lock stays held that nobody
knows of. Any other call that is cancelled is carried to its end first, because what it did could
not be taken back: the task gets its ``CancelledError`` then. A block that is left by cancellation
publishes nothing.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Callable, TypeVar

from baton.connection import Connection as _Connection
from baton.connection import _milliseconds
from baton.errors import BatonError, NotOpen, WouldBlock
from baton.grant import Data
from baton.grant import Grant as _Grant

__all__ = ["Connection", "Grant", "connect"]

_T = TypeVar("_T")


async def connect(server: str | None = None, source_port: int = 0) -> Connection:
    """Open a connection; `server` and `source_port` are those of `baton.Connection`.

    >>> import asyncio
    >>> from baton import aio
    >>> async def main():
    ...     conn = await aio.connect()
    ...     await conn.close()
    ...     return conn.closed
    >>> asyncio.run(main())
    True
    """
    thread = ThreadPoolExecutor(1, thread_name_prefix="baton")
    opening = thread.submit(_Connection, server, source_port)
    try:
        inner = await _to_the_end(asyncio.wrap_future(opening))
    except BaseException:
        if not opening.cancelled() and opening.done() and opening.exception() is None:
            # Opened, but the task was cancelled: nobody else can close it.
            thread.submit(opening.result().close)
        thread.shutdown(wait=False)
        raise
    return Connection(inner, thread)


class Connection:
    """A session with the server; made by `connect`.

    Leaving the ``async with`` block closes it: a section that is open is published, or discarded if
    the block is left by an exception.
    """

    def __init__(self, inner: _Connection, thread: ThreadPoolExecutor) -> None:
        self._inner = inner
        self._thread = thread
        #: Keeps the blocks of tasks that share the connection apart, in the order they came.
        self._turn = asyncio.Lock()
        self._inside: asyncio.Task[Any] | None = None

    def __repr__(self) -> str:
        return f"<aio {self._inner!r}>"

    # Holding the lock

    async def acquire(self, timeout: float | None = None) -> Grant:
        """As `baton.Connection.acquire`; cancelled, it leaves the queue.

        >>> import asyncio
        >>> from baton import aio
        >>> async def main():
        ...     async with await aio.connect() as holder, await aio.connect() as waiter:
        ...         await holder.acquire()
        ...         try:
        ...             await asyncio.wait_for(waiter.acquire(), 0.1)
        ...         except asyncio.TimeoutError:
        ...             return "left the queue"
        >>> asyncio.run(main())
        'left the queue'
        """
        held = self._inner.token
        call = self._submit(self._inner.acquire, timeout)
        try:
            return Grant(self, await asyncio.shield(call))
        except asyncio.CancelledError:
            await self._call_off(call, held)
            raise

    async def try_acquire(self) -> Grant | None:
        """As `baton.Connection.try_acquire`."""
        held = self._inner.token
        call = self._submit(self._inner.try_acquire)
        try:
            grant = await asyncio.shield(call)
        except asyncio.CancelledError:
            await self._call_off(call, held)
            raise
        return None if grant is None else Grant(self, grant)

    @asynccontextmanager
    async def lock(self, timeout: float | None = None) -> AsyncIterator[Grant]:
        """Hold the lock for an ``async with`` block, or as a decorator for coroutines.

        A normal end publishes; a block left by an exception, cancellation included, publishes
        nothing. Tasks that share a connection take turns; `timeout` covers that wait too.

        >>> import asyncio
        >>> from baton import aio
        >>> async def main():
        ...     async with await aio.connect() as conn:
        ...         try:
        ...             async with conn.lock() as grant:
        ...                 await grant.append("file_2", "half of a ")
        ...                 raise KeyError("the other half")
        ...         except KeyError:
        ...             return await conn.read("file_2")
        >>> asyncio.run(main())
        b''
        """
        if self._inside is not None and self._inside is asyncio.current_task():
            raise RuntimeError("this task is inside lock() on this connection already")
        waiting_since = time.monotonic()
        if timeout is not None:
            _milliseconds(timeout)  # refuses what is no time
        await self._take_turn(timeout)
        self._inside = asyncio.current_task()
        try:
            if self._inner.token is not None:
                raise RuntimeError("this connection holds the lock: release or abort it first")
            if timeout is not None:
                timeout = max(0.0, timeout - (time.monotonic() - waiting_since))
            grant = await self.acquire(timeout)
            try:
                yield grant
            except BaseException as error:
                await self._run(self._inner._discard, error)
                raise
            else:
                await self._run(grant._inner.__exit__, None, None, None)
        finally:
            self._inside = None
            self._turn.release()

    async def release(self) -> None:
        """As `baton.Connection.release`."""
        await self._run(self._inner.release)

    async def abort(self) -> None:
        """As `baton.Connection.abort`."""
        await self._run(self._inner.abort)

    async def renew(self) -> None:
        """As `baton.Connection.renew`."""
        await self._run(self._inner.renew)

    @property
    def token(self) -> int | None:
        """As `baton.Connection.token`."""
        return self._inner.token

    @property
    def lease_remaining(self) -> float:
        """As `baton.Connection.lease_remaining`."""
        return self._inner.lease_remaining

    # The files

    async def append(self, name: str, data: Data) -> None:
        """As `baton.Connection.append`."""
        await self._run(self._inner.append, name, data)

    async def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """As `baton.Connection.read`."""
        return await self._run(self._inner.read, name, offset, length)

    # The session

    @property
    def client_id(self) -> int:
        """As `baton.Connection.client_id`."""
        return self._inner.client_id

    @property
    def closed(self) -> bool:
        """Whether the connection was closed."""
        return self._inner.closed

    async def close(self) -> None:
        """As `baton.Connection.close`; who waits for the lock on it gets `WouldBlock`."""
        if self._inner.closed:
            return
        # In another thread: the connection's own may be waiting for the lock, which closing ends.
        loop = asyncio.get_running_loop()
        try:
            await _to_the_end(loop.run_in_executor(None, self._inner.close))
        finally:
            self._thread.shutdown(wait=False)

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None and self._inner.token is not None:
            await self._run(self._inner._discard, error)
        await self.close()

    # Inside

    def _submit(self, call: Callable[..., _T], *arguments: Any) -> asyncio.Future[_T]:
        try:
            return asyncio.wrap_future(self._thread.submit(call, *arguments))
        except RuntimeError as error:
            raise NotOpen("this connection is closed") from error

    async def _run(self, call: Callable[..., _T], *arguments: Any) -> _T:
        """Makes a call of the connection and sees it to its end."""
        return await _to_the_end(self._submit(call, *arguments))

    async def _call_off(self, call: asyncio.Future[Any], held: int | None) -> None:
        """Ends an acquire that nobody waits for any more; what it may have brought is given back,
        unless it was held before."""
        # The thread may not have begun with it yet, so once may be too early.
        while not call.done():
            with suppress(NotOpen):
                self._inner.cancel()
            await _ignoring_cancel(asyncio.wait([call], timeout=0.01))
        if call.exception() is None and call.result() is not None and held is None:
            # Where nothing can be said, the lease ends without its client's signs of life.
            with suppress(BatonError):
                await _ignoring_cancel(self._submit(self._inner._discard))

    async def _take_turn(self, timeout: float | None) -> None:
        """Waits for the other tasks that share the connection."""
        turn = asyncio.ensure_future(self._turn.acquire())
        try:
            await asyncio.wait([turn], timeout=None if timeout == math.inf else timeout)
            if not turn.done():
                turn.cancel()
                await asyncio.wait([turn])
        except asyncio.CancelledError:
            if not turn.cancel() and not turn.cancelled():
                self._turn.release()
            raise
        if turn.cancelled():
            raise WouldBlock("another task holds the lock by this connection")


class Grant:
    """One hold on the lock, as `baton.Grant`; an ``async with`` block publishes at its end."""

    def __init__(self, connection: Connection, inner: _Grant) -> None:
        self._connection = connection
        self._inner = inner
        #: The fencing token: greater than that of every earlier grant, to anybody.
        self.token = inner.token

    def __repr__(self) -> str:
        return f"<aio {self._inner!r}>"

    @property
    def is_current(self) -> bool:
        """As `baton.Grant.is_current`."""
        return self._inner.is_current

    @property
    def lease_remaining(self) -> float:
        """As `baton.Grant.lease_remaining`."""
        return self._inner.lease_remaining

    async def append(self, name: str, data: Data) -> None:
        """As `baton.Connection.append`."""
        await self._connection._run(self._inner.append, name, data)

    async def renew(self) -> None:
        """As `baton.Connection.renew`."""
        await self._connection._run(self._inner.renew)

    async def release(self) -> None:
        """As `baton.Connection.release`."""
        await self._connection._run(self._inner.release)

    async def abort(self) -> None:
        """As `baton.Connection.abort`."""
        await self._connection._run(self._inner.abort)

    async def __aenter__(self) -> Grant:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._connection._run(self._inner.__exit__, kind, error, traceback)


async def _to_the_end(call: asyncio.Future[_T]) -> _T:
    """The outcome of a call that cannot be taken back. A cancellation that comes meanwhile is
    raised after it."""
    cancelled: asyncio.CancelledError | None = None
    while not call.done():
        try:
            await asyncio.shield(call)
        except asyncio.CancelledError as error:
            cancelled = error
        except BaseException:
            break
    if cancelled is not None:
        if not call.cancelled():
            call.exception()  # seen, so that nobody complains of it
        raise cancelled
    return call.result()


async def _ignoring_cancel(awaitable: Any) -> None:
    """Waits in the middle of a cancellation: another one changes nothing."""
    waiting = asyncio.ensure_future(awaitable)
    while not waiting.done():
        try:
            await asyncio.shield(waiting)
        except asyncio.CancelledError:
            if waiting.cancelled():
                return
        except BaseException:
            break
    waiting.result()
