"""The asyncio front: side by side, cancelled at any time, without a lock left behind."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys

import pytest
from relay import QUEUED, Relay

from baton import (
    BatonError,
    Connection,
    FileNotFound,
    InvalidArgument,
    NotHolder,
    NotOpen,
    Unavailable,
    WouldBlock,
    aio,
)


def run(main):
    return asyncio.run(asyncio.wait_for(main(), 60))


async def queued(relay: Relay) -> None:
    """Until the client behind the relay stands in the queue."""
    await asyncio.to_thread(relay.wait_for, QUEUED)


def is_free() -> bool:
    with Connection() as conn:
        return conn.try_acquire() is not None


def test_every_call_works_without_holding_up_the_loop(server):
    async def main():
        async with await aio.connect() as conn:
            assert await conn.try_acquire() is not None
            await conn.append("file_0", "A")
            assert conn.token is not None and conn.lease_remaining > 0
            await conn.renew()
            await conn.release()
            grant = await conn.acquire(timeout=5)
            await grant.append("file_0", b"never")
            await grant.abort()
            assert not grant.is_current
            async with await conn.acquire() as grant:
                await grant.append("file_0", "B")
                await grant.renew()
            async with conn.lock() as grant:
                await grant.append("file_0", "C")
            assert await conn.read("file_0", offset=1) == b"BC"
            assert conn.client_id > 0 and not conn.closed
            with pytest.raises(NotHolder):
                await grant.append("file_0", "late")
            with pytest.raises(FileNotFound):
                await conn.read("file_100")
        assert conn.closed
        await conn.close()
        with pytest.raises(NotOpen):
            await conn.acquire()

    run(main)
    assert server.content("file_0") == b"ABC"


def test_other_tasks_run_while_one_waits(server):
    async def main(relay):
        async with await aio.connect() as holder, await aio.connect(relay.address) as waiter:
            grant = await holder.acquire()
            waiting = asyncio.create_task(waiter.acquire())
            await queued(relay)  # would never come back if the waiter held up the loop
            assert not waiting.done()
            await grant.release()
            assert (await waiting).token > grant.token

    with Relay(server.address) as relay:
        run(lambda: main(relay))


@pytest.mark.server_args("--lease", "60s")
@pytest.mark.parametrize("way", ["cancel", "wait_for", "timeout", "lock"])
def test_a_cancelled_wait_leaves_the_queue(server, way):
    async def main(relay):
        async with await aio.connect() as holder, await aio.connect(relay.address) as waiter:
            await holder.acquire()
            if way == "cancel":
                waiting = asyncio.create_task(waiter.acquire())
                await queued(relay)
                waiting.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await waiting
            elif way == "timeout":
                if sys.version_info < (3, 11):
                    pytest.skip("asyncio.timeout is of Python 3.11")
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.1):
                        await waiter.acquire()
            elif way == "wait_for":
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(waiter.acquire(), 0.1)
            else:

                async def block():
                    async with waiter.lock():
                        pytest.fail("the lock is not free")

                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(block(), 0.1)
            assert waiter.token is None
            await holder.release()
            assert is_free(), "nobody is in the queue"
            async with waiter.lock(timeout=5) as grant:  # it can be used as before
                await grant.append("file_0", "x")

    with Relay(server.address) as relay:
        run(lambda: main(relay))


def test_a_wait_with_a_limit_ends_there():
    async def main():
        async with await aio.connect() as holder, await aio.connect() as waiter:
            await holder.acquire()
            with pytest.raises(WouldBlock):
                await waiter.acquire(timeout=0.1)
            with pytest.raises(WouldBlock):
                async with waiter.lock(timeout=0.1):
                    pytest.fail("the lock is not free")
            assert await waiter.try_acquire() is None
            for timeout in (-1, float("nan")):
                with pytest.raises(InvalidArgument):
                    await waiter.acquire(timeout=timeout)
                with pytest.raises(InvalidArgument):
                    async with waiter.lock(timeout=timeout):
                        pytest.fail("that is no time")

    run(main)


def test_a_block_that_is_cancelled_or_fails_publishes_nothing(server):
    async def main():
        async with await aio.connect() as conn:
            has_appended = asyncio.Event()

            async def block(error=None):
                async with conn.lock() as grant:
                    await grant.append("file_0", "half")
                    if error is not None:
                        raise error
                    has_appended.set()
                    await asyncio.Event().wait()  # for ever

            with pytest.raises(KeyError):
                await block(KeyError())
            working = asyncio.create_task(block())
            await has_appended.wait()
            working.cancel()
            with pytest.raises(asyncio.CancelledError):
                await working
            assert conn.token is None
            assert is_free()
        with pytest.raises(KeyError):
            async with await aio.connect() as conn:
                await conn.acquire()
                await conn.append("file_0", "half")
                raise KeyError

    run(main)
    assert server.content("file_0") == b""
    assert is_free()


@pytest.mark.server_args("--lease", "60s")
def test_cancelled_at_any_moment_no_lock_is_left_held(server):
    """A grant that crosses the cancellation is given back; 60 s of a lease would show."""
    chance = random.Random(7)
    done = 0

    async def main():
        nonlocal done
        connections = [await aio.connect() for _ in range(4)]

        async def work(conn):
            nonlocal done
            async with conn.lock() as grant:
                await grant.append("file_0", "ab")
                await grant.append("file_0", "cd")
            done += 1

        async def client(conn):
            for _ in range(40):
                with contextlib.suppress(asyncio.TimeoutError, asyncio.CancelledError):
                    await asyncio.wait_for(work(conn), chance.uniform(0, 0.03))
                assert conn.token is None

        await asyncio.gather(*map(client, connections))
        assert is_free()
        for conn in connections:
            await conn.close()

    run(main)
    content = server.content("file_0")
    assert content == b"abcd" * (len(content) // 4)
    assert len(content) // 4 >= done > 0


def test_tasks_that_share_a_connection_take_turns(server):
    async def main():
        async with await aio.connect() as conn:

            async def work(letter):
                for _ in range(5):
                    async with conn.lock(timeout=30) as grant:
                        await grant.append("file_0", letter)
                        await asyncio.sleep(0)
                        await grant.append("file_0", letter)

            await asyncio.gather(*map(work, "abc"))
            async with conn.lock():
                with pytest.raises(RuntimeError):
                    async with conn.lock():
                        pass

                async def impatient():
                    with pytest.raises(WouldBlock):
                        async with conn.lock(timeout=0.01):
                            pytest.fail("the other task is in its block")

                await asyncio.create_task(impatient())

    run(main)
    content = server.content("file_0").decode()
    assert all(content[at] == content[at + 1] for at in range(0, len(content), 2))
    assert len(content) == 30


@pytest.mark.server_args("--lease", "60s")
def test_closing_ends_another_tasks_wait(server):
    async def main(relay):
        async with await aio.connect() as holder:
            await holder.acquire()
            waiter = await aio.connect(relay.address)
            waiting = asyncio.create_task(waiter.acquire())
            await queued(relay)
            await waiter.close()
            with pytest.raises(BatonError):
                await waiting

    with Relay(server.address) as relay:
        run(lambda: main(relay))


@pytest.mark.skipif(sys.version_info < (3, 10), reason="decorators are of Python 3.10")
def test_a_lock_decorates_a_coroutine(server):
    async def main():
        async with await aio.connect() as conn:

            @conn.lock(timeout=5)
            async def add(text):
                await conn.append("file_0", text)
                return conn.token

            assert await add("a") < await add("b")

    run(main)
    assert server.content("file_0") == b"ab"


def test_an_absent_server_is_an_exception(monkeypatch):
    monkeypatch.setenv("BATON_TIMEOUT_MS", "200")

    async def main():
        with pytest.raises(Unavailable):
            await aio.connect("127.0.0.1:9")

    run(main)


def test_a_cancelled_connect_leaves_no_connection_open(monkeypatch):
    async def main():
        connecting = asyncio.create_task(aio.connect())
        await asyncio.sleep(0)
        connecting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connecting

    run(main)  # an unclosed connection would be a warning, and warnings are errors here
