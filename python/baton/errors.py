"""Statuses of the library and the exceptions they become.

Every exception says whether what was asked for happened. One that is an :class:`OutcomeUnknown`
may or may not have taken effect; every other :class:`BatonError` means *not done*.

===================  ==========================================================================
exception            what to do
===================  ==========================================================================
`WouldBlock`         the lock was not free in time: try later
`LockLost`           the section was discarded: take the lock and do the whole section again
`OutcomeUnknown`     look (for example with `read`) before doing it again
`Unavailable`        no server answered: try later
`FileNotFound`       no data file has that name
`TooLarge`           split the section
`InvalidArgument`    mend the program
`NotOpen`            open a new `Connection` (also: in a forked child)
`SystemCallError`    `errno` says why
`Refused`            the message says why (no disk space, too many sessions)
===================  ==========================================================================
"""

from __future__ import annotations

import enum

__all__ = [
    "BatonError",
    "FileNotFound",
    "InternalError",
    "InvalidArgument",
    "LeaseExpired",
    "LockLost",
    "NotHolder",
    "NotOpen",
    "OutcomeUnknown",
    "Refused",
    "SessionLost",
    "Status",
    "SystemCallError",
    "TimedOut",
    "TooLarge",
    "Unavailable",
    "WouldBlock",
]


class Status(enum.IntEnum):
    """How a call of the C library ended; the numbers are part of its ABI."""

    OK = 0
    FILE_NOT_FOUND = 1
    NOT_HOLDER = 2
    LEASE_EXPIRED = 3
    WOULD_BLOCK = 4
    TIMED_OUT = 5
    UNAVAILABLE = 6
    SESSION_LOST = 7
    TOO_LARGE = 8
    INVALID_ARGUMENT = 9
    NOT_OPEN = 10
    SYSTEM_ERROR = 11
    REFUSED = 12
    INTERNAL = 13


class BatonError(Exception):
    """Base of all failures of Baton. Unless it is an `OutcomeUnknown`, nothing was done."""

    #: The status behind the exception; classes that only group others have `Status.INTERNAL`.
    status: Status = Status.INTERNAL

    @property
    def message(self) -> str:
        """What happened, for a person."""
        return str(self.args[-1]) if self.args else ""


class LockLost(BatonError):
    """This connection does not hold the lock (any more); what its section had is discarded."""


class NotHolder(LockLost):
    """This connection does not hold the lock."""

    status = Status.NOT_HOLDER


class LeaseExpired(LockLost):
    """The lease ran out while another client waited, and the section was discarded."""

    status = Status.LEASE_EXPIRED


class OutcomeUnknown(BatonError):
    """It may have taken effect, may still do so, or may never.

    Deliberately no `TimeoutError`: who catches that around a lock means "did not get it in time",
    and would take a release that may have published its section for one that did not.
    """


class TimedOut(OutcomeUnknown):
    """No answer from the server in time (`BATON_TIMEOUT_MS`)."""

    status = Status.TIMED_OUT


class SessionLost(OutcomeUnknown):
    """The server does not know this session any more: open a new connection.

    A section that was not being released is gone; whether a release or close that was under way
    took effect is unknown.
    """

    status = Status.SESSION_LOST


class InternalError(OutcomeUnknown):
    """A defect in the library or the server. Please report it."""

    status = Status.INTERNAL


class WouldBlock(BatonError, TimeoutError):
    """The lock was not free in the time given."""

    status = Status.WOULD_BLOCK


class Unavailable(BatonError, ConnectionError):
    """No server could be reached, or too few of them to decide."""

    status = Status.UNAVAILABLE


class FileNotFound(BatonError, FileNotFoundError):
    """No data file has that name; appending never creates one."""

    status = Status.FILE_NOT_FOUND


class TooLarge(BatonError):
    """The section would grow past the server's limit; what it has stays staged."""

    status = Status.TOO_LARGE


class InvalidArgument(BatonError, ValueError):
    """An argument is malformed or out of range."""

    status = Status.INVALID_ARGUMENT


class NotOpen(BatonError):
    """The connection was closed, or was opened by another process (before a fork)."""

    status = Status.NOT_OPEN


class SystemCallError(BatonError, OSError):
    """A system call of the client failed; `errno` and `strerror` say why."""

    status = Status.SYSTEM_ERROR


class Refused(BatonError):
    """The server declines; the message says why."""

    status = Status.REFUSED


_CLASSES: dict[int, type[BatonError]] = {
    cls.status: cls
    for cls in (
        FileNotFound,
        NotHolder,
        LeaseExpired,
        WouldBlock,
        TimedOut,
        Unavailable,
        SessionLost,
        TooLarge,
        InvalidArgument,
        NotOpen,
        Refused,
        InternalError,
    )
}


def error_for(status: int, message: str, errno: int = 0) -> BatonError:
    """The exception for a status other than 0; one unknown here is an `InternalError`."""
    if status == Status.SYSTEM_ERROR:
        return SystemCallError(errno, message)
    return _CLASSES.get(status, InternalError)(message)
