"""One hold on the lock and the section written under it.

What this adds to C is ownership: a grant belongs to one section and cannot write into a later one,
and leaving a block decides between publishing and discarding.
"""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Union

from baton.errors import NotHolder

if TYPE_CHECKING:
    from baton.connection import Connection

__all__ = ["Data", "Grant"]

#: What can be appended; text goes as UTF-8.
Data = Union[bytes, bytearray, memoryview, str]


class Grant:
    """One hold on the lock: what it appends is one section.

    As a context manager it publishes on a normal end and discards on an exception, unless the
    block released or aborted it itself. A grant that has ended cannot write into a later one:

    >>> from baton import Connection
    >>> with Connection() as conn:
    ...     with conn.lock() as first:
    ...         pass
    ...     with conn.lock() as second:
    ...         print(second.token > first.token)
    ...         first.append("file_0", "late")
    Traceback (most recent call last):
        ...
    baton.errors.NotHolder: the grant with token ... has ended (not done)
    """

    def __init__(self, connection: Connection, token: int) -> None:
        self._connection = connection
        #: The fencing token: greater than that of every earlier grant, to anybody.
        self.token = token

    def __repr__(self) -> str:
        state = "" if self.is_current else ", ended"
        return f"<baton.Grant with token {self.token}{state}>"

    @property
    def is_current(self) -> bool:
        """Neither released nor aborted. (The lease may have been lost all the same.)"""
        return self._connection._grant is self

    @property
    def lease_remaining(self) -> float:
        """Seconds for which the lock is surely still held; 0.0 when not."""
        return self._connection.lease_remaining if self.is_current else 0.0

    def append(self, name: str, data: Data) -> None:
        """As `Connection.append`."""
        self._current().append(name, data)

    def renew(self) -> None:
        """As `Connection.renew`."""
        self._current().renew()

    def release(self) -> None:
        """As `Connection.release`."""
        self._current().release()

    def abort(self) -> None:
        """As `Connection.abort`."""
        self._current().abort()

    def __enter__(self) -> Grant:
        self._current()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self.is_current:
            return
        if error is not None:
            self._connection._discard(error)
            return
        try:
            self.release()
        except BaseException as failure:
            # Where the release was refused the lock is still held, and nobody is left to give it
            # back.
            if self.is_current:
                self._connection._discard(failure)
            raise

    def _current(self) -> Connection:
        if not self.is_current:
            raise NotHolder(f"the grant with token {self.token} has ended (not done)")
        return self._connection
