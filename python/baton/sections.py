"""Doing a section again that was lost."""

from __future__ import annotations

import random
import time
from typing import Callable, TypeVar

from baton.connection import Connection
from baton.errors import InvalidArgument, LockLost, Unavailable
from baton.grant import Grant

__all__ = ["run_section"]

_T = TypeVar("_T")


def run_section(
    connection: Connection,
    section: Callable[[Grant], _T],
    *,
    attempts: int = 3,
    timeout: float | None = None,
    pause: float = 0.1,
) -> _T:
    """Run `section` under the lock, and again if it was lost, `attempts` times at most.

    It fails closed: `section` never runs without the lock, and is only done again when nothing of
    it was published (`LockLost`) or no server could be asked (`Unavailable`), after a `pause` in
    seconds that doubles each time. What may have been published (`OutcomeUnknown`) is never done
    again, nor is what fails by an exception of `section`'s own. `timeout` is for each wait for the
    lock, as in `Connection.lock`: when it is over, `WouldBlock` is raised.

    >>> from baton import Connection, LeaseExpired, run_section
    >>> tries = []
    >>> def section(grant):
    ...     tries.append(grant.token)
    ...     grant.append("file_0", "once\\n")
    ...     if len(tries) == 1:
    ...         raise LeaseExpired("as if it had been too slow")
    ...     return "done"
    >>> with Connection() as conn:
    ...     run_section(conn, section, timeout=5)
    ...     conn.read("file_0")
    'done'
    b'once\\n'
    >>> len(tries)
    2
    """
    if attempts < 1:
        raise InvalidArgument(f"attempts {attempts} is not a number from 1")
    for attempt in range(1, attempts + 1):
        try:
            with connection.lock(timeout) as grant:
                return section(grant)
        except (LockLost, Unavailable):
            if attempt == attempts:
                raise
        # So that clients that were cut off together do not come back together.
        time.sleep(pause * 2 ** (attempt - 1) * random.uniform(0.5, 1.5))
    raise AssertionError("the last attempt returns or raises")
