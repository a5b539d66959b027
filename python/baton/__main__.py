"""``python -m baton [SERVER]``: a small self-test against a server.

It writes one line into a file of the server and tells, step by step, whether what Baton promises
holds there: exclusion, fencing, all or nothing. The exit status is 0 when it does.
"""

from __future__ import annotations

import argparse
import os
import sys

import baton


def main() -> int:
    """Run the test; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m baton", description="Test a Baton server.")
    parser.add_argument("server", nargs="?", help="HOST[:PORT]; default: BATON_SERVER")
    parser.add_argument("--file", default="file_0", help="the file to append to (%(default)s)")
    parser.add_argument("--wait", type=float, default=10, help="seconds to wait for the lock")
    arguments = parser.parse_args()
    try:
        check(arguments.server, arguments.file, arguments.wait)
    except baton.Unavailable as error:
        print(f"failed: {error}; is batond running there?", file=sys.stderr)
        return 69
    except (baton.BatonError, CheckFailed) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    print("all is well")
    return 0


class CheckFailed(Exception):
    """The server answered, but not as promised."""


def check(server: str | None, file: str, wait: float) -> None:
    """Go through what a client does, and look at what came of it."""
    print(f"library {baton.library_version()}")
    with baton.Connection(server) as one, baton.Connection(server) as other:
        print(f"connected to {one.server}")
        line = f"self-test of process {os.getpid()}, client {one.client_id}\n".encode()
        with one.lock(timeout=wait) as grant:
            first = grant.token
            print(f"lock held under token {first}")
            require(other.try_acquire() is None, "nobody else gets the lock meanwhile")
            size = len(one.read(file))
            grant.append(file, line)
            require(len(other.read(file)) == size, "nothing shows before the release")
        require(other.read(file, offset=size).startswith(line), "the line is there once released")
        with other.lock(timeout=wait) as grant:
            require(grant.token > first, "the next grant has a greater token")
            size = len(other.read(file))
            grant.append(file, b"never to be seen\n")
            grant.abort()
        require(b"never to be seen" not in one.read(file, offset=size), "an abort leaves nothing")


def require(is_so: bool, what: str) -> None:
    """Tell what was looked at, and how it turned out."""
    if not is_so:
        raise CheckFailed(f"not so: {what}")
    print(f"ok: {what}")


if __name__ == "__main__":
    sys.exit(main())
