"""Baton: a distributed lock whose holder appends to files that live with the server.

>>> import baton
>>> with baton.Connection() as conn:
...     with conn.lock() as grant:
...         grant.append("file_0", "hello")
...     conn.read("file_0")
b'hello'

What is appended under the lock appears all at once when the block ends, exactly once, or, by an
exception, not at all.
"""

from baton._library import library as _library
from baton.connection import Connection
from baton.errors import (
    BatonError,
    FileNotFound,
    InternalError,
    InvalidArgument,
    LeaseExpired,
    LockLost,
    NotHolder,
    NotOpen,
    OutcomeUnknown,
    Refused,
    SessionLost,
    Status,
    SystemCallError,
    TimedOut,
    TooLarge,
    Unavailable,
    WouldBlock,
)
from baton.grant import Data, Grant
from baton.sections import run_section

__all__ = [
    "BatonError",
    "Connection",
    "Data",
    "FileNotFound",
    "Grant",
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
    "library_version",
    "run_section",
]

__version__ = "0.1.0"


def library_version() -> str:
    """Version of the C library in use."""
    version: bytes = _library.RPC_version()
    return version.decode()
