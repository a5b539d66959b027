"""What blocks publish and what they discard."""

from __future__ import annotations

import time

import pytest

from baton import Connection, LeaseExpired, NotHolder, Refused, Status
from baton._library import library


class Mishap(Exception):
    """What goes wrong in a block."""


def test_a_block_that_ends_normally_publishes(server):
    with Connection() as conn:
        with conn.lock() as grant:
            grant.append("file_0", "A")
            conn.append("file_0", "B")
        assert server.content("file_0") == b"AB"
        assert conn.token is None


@pytest.mark.parametrize("kind", [Mishap, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_a_block_left_by_an_exception_discards(server, kind):
    with Connection() as conn, Connection() as other:
        with pytest.raises(kind), conn.lock() as grant:
            grant.append("file_0", "A")
            raise kind
        assert other.try_acquire() is not None
    assert server.content("file_0") == b""


def test_a_block_left_by_return_publishes(server):
    def section(conn):
        with conn.lock() as grant:
            grant.append("file_0", "A")
            return grant.token

    with Connection() as conn:
        assert section(conn) > 0
    assert server.content("file_0") == b"A"


def test_a_connection_left_by_an_exception_discards_what_it_holds(server):
    with pytest.raises(Mishap), Connection() as conn:
        conn.acquire()
        conn.append("file_0", "A")
        raise Mishap
    assert conn.closed
    assert server.content("file_0") == b""


def test_a_connection_left_normally_publishes_what_it_holds(server):
    with Connection() as conn:
        conn.acquire()
        conn.append("file_0", "A")
    assert server.content("file_0") == b"A"


def test_a_grant_is_a_block_too(server):
    with Connection() as conn:
        with conn.acquire() as grant:
            grant.append("file_0", "A")
        with pytest.raises(Mishap), conn.acquire() as grant:
            grant.append("file_0", "B")
            raise Mishap
    assert server.content("file_0") == b"A"


@pytest.mark.parametrize("ends_by_grant", [True, False])
def test_a_block_may_discard_by_itself(server, ends_by_grant):
    with Connection() as conn:
        with conn.lock() as grant:
            grant.append("file_0", "A")
            (grant if ends_by_grant else conn).abort()
            assert not grant.is_current
        with conn.lock() as grant:
            grant.append("file_0", "B")
            (grant if ends_by_grant else conn).release()
            assert server.content("file_0") == b"B"


def test_a_grant_that_has_ended_writes_nothing(server):
    with Connection() as conn:
        with conn.lock() as ended:
            pass
        with conn.lock():
            for operation in (ended.renew, ended.release, ended.abort, ended.__enter__):
                with pytest.raises(NotHolder):
                    operation()
            with pytest.raises(NotHolder):
                ended.append("file_0", "A")
        assert "ended" in repr(ended)
    assert server.content("file_0") == b""


def test_blocks_of_one_connection_do_not_nest(server):
    with Connection() as conn:
        with conn.lock() as grant:
            grant.append("file_0", "A")
            with pytest.raises(RuntimeError, match="inside"), conn.lock():
                pass
            grant.append("file_0", "B")
        assert server.content("file_0") == b"AB"

        conn.acquire()
        with pytest.raises(RuntimeError, match="release or abort"), conn.lock():
            pass
        conn.abort()
        with conn.lock():
            pass


def test_a_function_decorated_with_the_lock_takes_it_for_each_call(server):
    with Connection() as conn:

        @conn.lock(timeout=10)
        def write(text):
            conn.append("file_0", text)
            if text == "bad":
                raise Mishap

        write("A")
        with pytest.raises(Mishap):
            write("bad")
        write("B")
        assert conn.read("file_0") == b"AB"


@pytest.mark.server_args("--lease", "100ms")
def test_a_block_whose_lease_was_lost_says_so_and_publishes_nothing(server):
    with Connection() as conn, Connection() as other:
        with pytest.raises(LeaseExpired), conn.lock() as grant:
            grant.append("file_0", "A")
            other.acquire()  # granted only when the lease of `conn` has run out
        other.append("file_0", "B")
        other.release()
        with conn.lock() as grant:
            grant.append("file_0", "C")
        assert conn.read("file_0") == b"BC"


@pytest.mark.server_args("--lease", "100ms")
def test_a_lost_lease_that_the_block_overlooks_is_raised_at_its_end(server):
    with Connection() as conn, Connection() as other:
        with pytest.raises(LeaseExpired), conn.lock() as grant:
            grant.append("file_0", "A")
            other.acquire()
            with pytest.raises(LeaseExpired):
                grant.append("file_0", "A")
        other.abort()
        assert conn.read("file_0") == b""


@pytest.mark.server_args("--lease", "100ms")
def test_the_exception_of_a_block_wins_over_a_lost_lease():
    with Connection() as conn, Connection() as other:
        with pytest.raises(Mishap) as caught, conn.lock() as grant:
            grant.append("file_0", "A")
            other.acquire()
            raise Mishap
        notes = getattr(caught.value, "__notes__", ["lease expired"])
        assert any("lease expired" in note for note in notes)


def test_a_block_whose_section_is_refused_gives_the_lock_back(server, monkeypatch):
    with Connection() as conn, Connection() as other:
        with pytest.raises(Refused), conn.lock() as grant:
            grant.append("file_0", "A")
            # Stands for a server with a full disk.
            monkeypatch.setattr(library, "RPC_lock_release", lambda rpc: Status.REFUSED)
        assert other.try_acquire() is not None
    assert server.content("file_0") == b""


@pytest.mark.server_args("--lease", "100ms")
def test_a_slow_holder_keeps_the_lock_while_nobody_wants_it(server):
    with Connection() as conn:
        with conn.lock() as grant:
            grant.append("file_0", "A")
            while grant.lease_remaining > 0:
                time.sleep(0.01)
            grant.append("file_0", "A")
        assert conn.read("file_0") == b"AA"
