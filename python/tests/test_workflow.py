"""The basic workflow: an operation's effect, and on which files."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from relay import QUEUED, Relay

from baton import Connection, FileNotFound, NotHolder


def test_a_released_section_is_in_the_file(server):
    conn = Connection(server.address)
    conn.acquire()
    conn.append("file_0", "A")
    conn.release()
    conn.close()
    assert server.content("file_0") == b"A"


def test_waiters_get_the_lock_in_the_order_in_which_they_asked(server):
    def section(address, letter):
        with Connection(address) as conn:
            conn.acquire()
            conn.append("file_0", letter)
            conn.append("file_0", letter)
            conn.release()

    with Connection() as first, Relay(server.address) as relay2, Relay(server.address) as relay3:
        first.acquire()
        first.append("file_0", "1")
        with ThreadPoolExecutor(2) as pool:
            second = pool.submit(section, relay2.address, "2")
            relay2.wait_for(QUEUED)
            third = pool.submit(section, relay3.address, "3")
            relay3.wait_for(QUEUED)
            assert not second.done()
            assert not third.done()
            first.append("file_0", "1")
            first.release()
            second.result()
            third.result()
        assert first.read("file_0") == b"112233"


@pytest.mark.parametrize("name", ["file_100", "../etc/passwd", "", "file_07", "x" * 255])
def test_an_append_to_a_file_that_is_none_creates_nothing(server, name):
    with Connection() as conn:
        conn.acquire()
        with pytest.raises(FileNotFound):
            conn.append(name, "A")
        conn.append("file_1", "B")
        conn.release()
    assert server.content("file_1") == b"B"
    assert data_files(server) == EVERY_FILE


@pytest.mark.parametrize("name", ["file_100", "../etc/passwd"])
def test_a_file_that_is_none_cannot_be_read(name):
    with Connection() as conn, pytest.raises(FileNotFoundError):
        conn.read(name)


@pytest.mark.parametrize(
    "operation",
    [
        lambda conn: conn.append("file_0", "A"),
        lambda conn: conn.release(),
        lambda conn: conn.abort(),
        lambda conn: conn.renew(),
    ],
    ids=["append", "release", "abort", "renew"],
)
def test_what_needs_the_lock_is_refused_without_it(server, operation):
    with Connection() as conn, pytest.raises(NotHolder):
        operation(conn)
    assert server.content("file_0") == b""


def test_a_fresh_store_has_a_hundred_empty_files(server):
    assert data_files(server) == EVERY_FILE
    assert all(server.content(name) == b"" for name in EVERY_FILE)


def test_an_aborted_section_leaves_nothing(server):
    with Connection() as conn:
        conn.acquire()
        conn.append("file_0", "A")
        conn.abort()
        conn.acquire()
        conn.append("file_0", "B")
        conn.release()
        assert conn.read("file_0") == b"B"


def test_what_is_not_released_is_not_read(server):
    with Connection() as conn, Connection() as other:
        conn.acquire()
        conn.append("file_0", "A")
        assert conn.read("file_0") == other.read("file_0") == b""
        conn.release()
        assert other.read("file_0") == b"A"


def test_closing_publishes_what_is_held(server):
    conn = Connection()
    conn.acquire()
    conn.append("file_0", "A")
    conn.close()
    assert server.content("file_0") == b"A"


def test_acquiring_again_changes_nothing(server):
    with Connection() as conn:
        grant = conn.acquire()
        conn.append("file_0", "A")
        assert conn.acquire() is grant
        assert conn.acquire(timeout=1) is grant
        assert conn.try_acquire() is grant
        conn.release()
    assert server.content("file_0") == b"A"


def test_the_session_says_who_it_is_and_how_it_stands():
    conn = Connection()
    assert conn.last_message == "Connected!"
    assert conn.client_id > 0
    assert not conn.closed
    assert (conn.token, conn.lease_remaining) == (None, 0.0)

    grant = conn.acquire()
    assert conn.token == grant.token > 0
    assert 0 < conn.lease_remaining <= 10
    assert grant.lease_remaining > 0
    conn.renew()
    conn.release()
    assert (conn.token, conn.lease_remaining) == (None, 0.0)
    assert grant.lease_remaining == 0.0

    conn.close()
    assert conn.closed
    assert "closed" in repr(conn)


def test_tokens_rise_from_client_to_client():
    with Connection() as one, Connection() as two:
        tokens = []
        for conn in (one, two, one, two):
            with conn.lock() as grant:
                tokens.append(grant.token)
    assert tokens == sorted(set(tokens))


EVERY_FILE = {f"file_{number}" for number in range(100)}


def data_files(server):
    return {path.name for path in server.data.iterdir() if not path.name.startswith(".")}
