"""Finds ``libbaton`` and declares its C functions to :mod:`ctypes`.

The order of the search: what ``BATON_LIBRARY`` names and nothing else; the library inside the
installed package; the newer one of ``target/release`` and ``target/debug`` in the source tree this
file stands in; the system's loader path.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_uint8, c_uint64
from pathlib import Path
from typing import Any

__all__ = ["RpcConn", "library", "load"]

_PACKAGE = Path(__file__).resolve().parent
_SONAME = "libbaton.so.0"


class RpcConn(ctypes.Structure):
    """``rpc_conn_t`` of ``rpc.h``: 40 bytes, the two addresses opaque here."""

    sd: int
    client_id: int
    _fields_ = [
        ("sd", c_int),
        ("send_addr", c_uint8 * 16),
        ("recv_addr", c_uint8 * 16),
        ("client_id", c_int),
    ]


_CONN = POINTER(RpcConn)

# The result is a status unless the third column says otherwise.
_FUNCTIONS: list[tuple[str, list[Any], Any]] = [
    ("RPC_init", [_CONN, c_int, c_int, c_char_p], c_int),
    ("RPC_lock_acquire", [_CONN], c_int),
    ("RPC_try_acquire", [_CONN], c_int),
    ("RPC_acquire_timeout", [_CONN, c_int], c_int),
    ("RPC_cancel", [_CONN], c_int),
    ("RPC_append_bytes", [_CONN, c_char_p, c_char_p, c_size_t], c_int),
    ("RPC_lock_release", [_CONN], c_int),
    ("RPC_lock_abort", [_CONN], c_int),
    ("RPC_renew", [_CONN], c_int),
    ("RPC_lease_remaining_ms", [_CONN], c_int64),
    ("RPC_fencing_token", [_CONN, POINTER(c_uint64)], c_int),
    (
        "RPC_read_file",
        [_CONN, c_char_p, c_uint64, ctypes.c_void_p, c_size_t, POINTER(c_size_t)],
        c_int,
    ),
    ("RPC_close", [_CONN], c_int),
    ("RPC_last_message", [_CONN], c_char_p),
    ("RPC_strerror", [c_int], c_char_p),
    ("RPC_version", [], c_char_p),
]


def _candidates() -> Iterator[str]:
    named = os.environ.get("BATON_LIBRARY")
    if named:
        yield named
        return
    packaged = _PACKAGE / _SONAME
    if packaged.is_file():
        yield str(packaged)
    tree = _PACKAGE.parent.parent
    if _PACKAGE.parent.name == "python" and (tree / "Cargo.toml").is_file():
        built = [tree / "target" / profile / "libbaton.so" for profile in ("release", "debug")]
        present = (path for path in built if path.is_file())
        newest_first = sorted(present, key=lambda path: path.stat().st_mtime, reverse=True)
        yield from map(str, newest_first)
    yield _SONAME


def load() -> ctypes.CDLL:
    """The library with its functions declared.

    Calls run without the interpreter's lock, so other Python threads go on while one waits.
    """
    failures: list[str] = []
    for candidate in _candidates():
        try:
            loaded = ctypes.CDLL(candidate, use_errno=True)
            for name, argtypes, restype in _FUNCTIONS:
                function = getattr(loaded, name)
                function.argtypes = argtypes
                function.restype = restype
        except (OSError, AttributeError) as error:
            failures.append(f"  {candidate}: {error}")
            continue
        return loaded
    raise ImportError(
        "baton cannot load its C library. Tried:\n"
        + "\n".join(failures)
        + "\nInstall the wheel (`make wheel`, then `pip install dist/*.whl`), or build the library"
        " (`cargo build --release`) and let BATON_LIBRARY name target/release/libbaton.so."
    )


library = load()
