"""Waiting for the lock: time limits, threads, interruption."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait

import pytest
from relay import QUEUED, Relay

from baton import Connection, InvalidArgument, NotOpen, Status, WouldBlock
from baton._library import library


def test_a_wait_with_a_limit_ends_there():
    with Connection() as holder, Connection() as waiter:
        holder.acquire()
        since = time.monotonic()
        with pytest.raises(WouldBlock):
            waiter.acquire(timeout=0.2)
        assert time.monotonic() - since >= 0.2
        assert waiter.token is None
        with pytest.raises(TimeoutError):
            waiter.acquire(timeout=0)
        with pytest.raises(WouldBlock), waiter.lock(timeout=0.01):
            pytest.fail("the lock is not free")
        assert waiter.try_acquire() is None
        holder.release()
        assert waiter.acquire(timeout=0).token > 0


def test_who_gave_up_waiting_does_not_get_the_lock_later(server):
    with Connection() as holder, Connection() as impatient, Connection() as third:
        holder.acquire()
        with pytest.raises(WouldBlock):
            impatient.acquire(timeout=0.05)
        holder.release()
        assert third.try_acquire() is not None


@pytest.mark.parametrize("timeout", [-1, -0.001, float("nan")])
def test_a_limit_that_is_none_is_refused(timeout):
    with Connection() as conn:
        with pytest.raises(InvalidArgument):
            conn.acquire(timeout=timeout)
        with pytest.raises(InvalidArgument), conn.lock(timeout=timeout):
            pass
        assert conn.token is None


def test_a_short_limit_is_not_rounded_to_none(monkeypatch):
    limits = []

    def wait(rpc, limit_ms):
        limits.append(limit_ms)
        return Status.WOULD_BLOCK

    monkeypatch.setattr(library, "RPC_acquire_timeout", wait)
    with Connection() as holder, holder.lock(), Connection() as conn:
        for timeout in (0.0001, 0.0011, 0):
            with pytest.raises(WouldBlock):
                conn.acquire(timeout)
    assert limits == [1, 2, 0]


@pytest.mark.parametrize("timeout", [60, 1e12, float("inf")])
def test_a_limit_may_be_of_any_length(timeout):
    with Connection() as conn:
        with conn.lock(timeout=timeout) as grant:
            assert grant.token > 0
        conn.acquire(timeout=timeout)


def test_sections_of_many_clients_do_not_interleave():
    clients, sections = 100, 100

    def work(client):
        with Connection() as conn:
            for _ in range(sections):
                with conn.lock() as grant:
                    for part in "abc":
                        grant.append("file_0", f"{client}{part} {grant.token}\n")

    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(work, range(clients)))
    with Connection() as conn:
        lines = conn.read("file_0").decode().splitlines()
    tokens = []
    counts = Counter()
    for first in range(0, len(lines), 3):
        section = [line.split() for line in lines[first : first + 3]]
        client = section[0][0][:-1]
        assert [name for name, _ in section] == [client + part for part in "abc"]
        assert len({token for _, token in section}) == 1
        tokens.append(int(section[0][1]))
        counts[client] += 1
    assert tokens == sorted(tokens)
    assert counts == {str(client): sections for client in range(clients)}


def test_many_connections_are_open_at_once(server):
    connections = [Connection() for _ in range(100)]
    assert len({conn.client_id for conn in connections}) == 100
    for conn in connections:
        with conn.lock() as grant:
            grant.append("file_0", ".")
    for conn in connections:
        conn.close()
    assert server.content("file_0") == b"." * 100


def test_blocks_of_threads_that_share_a_connection_are_kept_apart(server):
    threads, rounds = 4, 10
    with Connection() as conn:

        def work(letter):
            for _ in range(rounds):
                with conn.lock() as grant:
                    grant.append("file_0", letter)
                    grant.append("file_0", letter)

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, "abcd"))
        content = conn.read("file_0").decode()
    pairs = Counter(content[at : at + 2] for at in range(0, len(content), 2))
    assert pairs == {letter * 2: rounds for letter in "abcd"}


def test_a_thread_waits_for_another_of_its_connection_within_its_limit():
    with Connection() as conn, ThreadPoolExecutor(1) as pool, conn.lock():

        def impatient():
            with pytest.raises(WouldBlock), conn.lock(timeout=0.01):
                pytest.fail("the other thread is in its block")

        pool.submit(impatient).result()


def test_other_threads_run_while_one_waits_for_the_lock(server):
    with Connection() as holder, Relay(server.address) as relay, ThreadPoolExecutor(1) as pool:
        with holder.lock():
            with Connection(relay.address) as waiter:
                waiting = pool.submit(waiter.acquire)
                relay.wait_for(QUEUED)  # would never come if the waiter held the interpreter
                holder.release()
                assert waiting.result().token > 0


def test_another_thread_can_call_a_wait_off():
    with Connection() as holder, Connection() as waiter, Connection() as third:
        holder.acquire()
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(waiter.acquire)
            while not wait([waiting], timeout=0.001).done:
                waiter.cancel()
            with pytest.raises(WouldBlock):
                waiting.result()
        waiter.cancel()  # nothing waits, nothing is remembered
        holder.release()
        assert third.try_acquire() is not None  # nobody is in the queue
        third.release()
        assert waiter.acquire().token > 0


@pytest.mark.server_args("--lease", "60s")
def test_closing_ends_another_threads_wait(server):
    with Connection() as holder, Relay(server.address) as relay:
        holder.acquire()
        with Connection(relay.address) as waiter, ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(waiter.acquire)
            relay.wait_for(QUEUED)
            waiter.close()
            with pytest.raises((WouldBlock, NotOpen)):
                waiting.result(timeout=20)


@pytest.fixture
def ctrl_c():
    """Ctrl-C as in a terminal: a job in the background starts with the signal ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda: os.kill(os.getpid(), signal.SIGINT)
    signal.signal(signal.SIGINT, before)


def test_a_grant_that_comes_after_an_interruption_is_given_back(server, ctrl_c):
    with Connection() as holder, Connection() as third, Relay(server.address) as relay:
        with Connection(relay.address) as waiter:
            holder.acquire()

            def interrupt():
                relay.wait_for(QUEUED)
                ctrl_c()
                holder.release()

            with ThreadPoolExecutor(1) as pool:
                interrupting = pool.submit(interrupt)
                with pytest.raises(KeyboardInterrupt):
                    waiter.acquire()
                interrupting.result()
            assert waiter.token is None
            assert third.try_acquire() is not None


@pytest.mark.server_args("--lease", "60s")
@pytest.mark.parametrize("timeout", [None, 60], ids=["without limit", "with limit"])
def test_ctrl_c_ends_a_wait_at_once_and_leaves_the_queue(server, ctrl_c, timeout):
    with Connection() as holder, Connection() as third, Relay(server.address) as relay:
        with Connection(relay.address) as waiter:
            holder.acquire()

            def interrupt():
                relay.wait_for(QUEUED)
                ctrl_c()

            with ThreadPoolExecutor(1) as pool:
                interrupting = pool.submit(interrupt)
                with pytest.raises(KeyboardInterrupt):
                    waiter.acquire(timeout)
                interrupting.result()
            assert waiter.token is None
            holder.release()
            assert third.try_acquire() is not None
