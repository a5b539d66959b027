"""Other processes: however they are made, each has connections of its own."""

from __future__ import annotations

import multiprocessing
import os
import threading
import traceback

import pytest

from baton import (
    Connection,
    LeaseExpired,
    NotOpen,
    OutcomeUnknown,
    TimedOut,
    WouldBlock,
    run_section,
)

ROUNDS = 10


def add_lines(name: str) -> None:
    with Connection() as conn:
        for _ in range(ROUNDS):
            with conn.lock() as grant:
                grant.append("file_0", f"{name} begins\n")
                grant.append("file_0", f"{name} ends\n")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_processes_of_every_kind_take_turns(server, method):
    context = multiprocessing.get_context(method)
    with Connection() as parent, parent.lock():
        # Started while the parent holds the lock, and with its library in use.
        children = [context.Process(target=add_lines, args=(f"child{n}",)) for n in range(3)]
        for child in children:
            child.start()
        parent.append("file_0", "parent begins\n")
        parent.append("file_0", "parent ends\n")
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    lines = server.content("file_0").decode().split("\n")[:-1]
    assert len(lines) == 2 * (3 * ROUNDS + 1)
    for begins, ends in zip(lines[::2], lines[1::2]):
        assert begins.replace("begins", "ends") == ends


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_leaves_the_parents_lock_alone(server):
    """Also while another thread of the parent is in a call."""
    with Connection() as conn, Connection() as waiter:
        grant = conn.acquire()
        waiting = threading.Thread(target=lambda: waiter.acquire().release())
        waiting.start()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                for call in (conn.release, conn.renew, conn.cancel, waiter.try_acquire):
                    with pytest.raises(NotOpen):
                        call()
                with pytest.raises(NotOpen), waiter.lock():
                    pytest.fail("it is the parent's")
                assert conn.token is None and grant.lease_remaining == 0
                conn.close()
                with Connection() as own:
                    assert own.try_acquire() is None
                status = 0
            except BaseException:
                traceback.print_exc()
            os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        grant.append("file_0", "parent")
        grant.release()
        waiting.join(30)
    assert server.content("file_0") == b"parent"


@pytest.mark.server_args("--lease", "200ms")
def test_a_lost_section_is_done_again_and_published_once(server):
    tokens = []
    with Connection() as conn, Connection() as other:

        def section(grant):
            tokens.append(grant.token)
            grant.append("file_0", "A")
            if len(tokens) == 1:
                other.acquire(timeout=20).release()  # takes the lock when the lease is over
            grant.append("file_0", "B")
            return "done"

        assert run_section(conn, section, timeout=20) == "done"
    assert server.content("file_0") == b"AB"
    assert len(tokens) == 2 and tokens[0] < tokens[1]


def test_sections_fail_closed(server):
    calls = []
    with Connection() as conn, Connection() as other:

        def failing(error):
            def section(grant):
                calls.append(grant.token)
                grant.append("file_0", "x")
                raise error

            return section

        for error, count in [
            (LeaseExpired("lost"), 3),
            (TimedOut("unknown"), 1),
            (KeyError("mine"), 1),
        ]:
            calls.clear()
            with pytest.raises(type(error)):
                run_section(conn, failing(error), attempts=3, pause=0.001)
            assert len(calls) == count
        assert isinstance(error, KeyError) and issubclass(TimedOut, OutcomeUnknown)
        with other.lock():
            calls.clear()
            with pytest.raises(WouldBlock):
                run_section(conn, failing(None), timeout=0.05)
            assert not calls, "it does not run without the lock"
        with pytest.raises(ValueError):
            run_section(conn, failing(None), attempts=0)
    assert server.content("file_0") == b""
