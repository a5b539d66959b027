"""Each failure has its exception, which says whether it was done."""

from __future__ import annotations

import errno
import gc
import inspect
import os
import pickle
import re
import socket
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

import baton
from baton import (
    BatonError,
    Connection,
    InvalidArgument,
    LockLost,
    NotOpen,
    OutcomeUnknown,
    Status,
    SystemCallError,
    TimedOut,
    Unavailable,
)
from baton.errors import error_for

CALLS = {
    "acquire": lambda conn: conn.acquire(),
    "acquire with timeout": lambda conn: conn.acquire(timeout=1),
    "try_acquire": lambda conn: conn.try_acquire(),
    "lock": lambda conn: conn.lock().__enter__(),
    "append": lambda conn: conn.append("file_0", "A"),
    "read": lambda conn: conn.read("file_0"),
    "renew": lambda conn: conn.renew(),
    "release": lambda conn: conn.release(),
    "abort": lambda conn: conn.abort(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_closed_connection_refuses_every_call(call):
    conn = Connection()
    conn.close()
    with pytest.raises(NotOpen):
        call(conn)
    assert (conn.token, conn.lease_remaining) == (None, 0.0)


def test_closing_twice_is_closing():
    with Connection() as conn:
        conn.close()
        conn.close()


def test_a_connection_that_never_opened_has_nothing_to_close():
    with pytest.raises(TypeError):
        Connection("localhost", 0, "one too many")
    with pytest.raises(InvalidArgument):
        Connection(source_port=-1)
    gc.collect()  # an exception in a destructor would be an error here


def test_a_forgotten_connection_is_closed_and_discards_with_a_warning(server):
    conn = Connection()
    conn.acquire()
    conn.append("file_0", "A")
    with pytest.warns(ResourceWarning, match="unclosed"):
        del conn
        gc.collect()
    with Connection() as other:
        assert other.try_acquire() is not None
    assert server.content("file_0") == b""


@pytest.mark.parametrize("listens", [True, False], ids=["silent port", "closed port"])
def test_an_absent_server_is_unavailable_in_time(monkeypatch, listens):
    monkeypatch.setenv("BATON_TIMEOUT_MS", "200")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        if not listens:
            silent.close()
        with pytest.raises(Unavailable) as caught:
            Connection(address)
    assert isinstance(caught.value, ConnectionError)
    assert address in str(caught.value)


def test_a_server_that_dies_leaves_a_release_unknown(server, monkeypatch):
    monkeypatch.setenv("BATON_TIMEOUT_MS", "200")
    with Connection() as conn:
        with pytest.raises(TimedOut) as caught, conn.lock() as grant:
            grant.append("file_0", "A")
            server.kill()
        assert isinstance(caught.value, OutcomeUnknown)
        assert not isinstance(caught.value, TimeoutError)
        with pytest.raises(Unavailable):
            conn.read("file_0")


def test_the_second_server_of_a_list_takes_over(server):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        absent = f"127.0.0.1:{silent.getsockname()[1]}"
        with Connection(f"{absent},{server.address}") as conn, conn.lock() as grant:
            grant.append("file_0", "A")
    assert server.content("file_0") == b"A"


@pytest.mark.parametrize(
    "server_list", ["", ",", "127.0.0.1:99999", "127.0.0.1:x", "a\0b", "no such host"]
)
def test_a_server_that_cannot_be_is_refused(monkeypatch, server_list):
    monkeypatch.delenv("BATON_SERVER")
    monkeypatch.setenv("BATON_TIMEOUT_MS", "200")
    if not server_list:
        monkeypatch.setenv("BATON_SERVER", ",")
    with pytest.raises((InvalidArgument, Unavailable)):
        Connection(server_list)


@pytest.mark.parametrize("port", [-1, 65536, 2**32])
def test_a_source_port_out_of_range_is_refused(port):
    with pytest.raises(InvalidArgument):
        Connection(source_port=port)


def test_a_source_port_in_use_is_a_system_error():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind(("0.0.0.0", 0))
        with pytest.raises(SystemCallError) as caught:
            Connection(source_port=taken.getsockname()[1])
    assert caught.value.errno == errno.EADDRINUSE
    assert isinstance(caught.value, OSError)
    assert "in use" in str(caught.value)


def test_a_source_port_is_used(server):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("0.0.0.0", 0))
        port = probe.getsockname()[1]
    with Connection(source_port=port), pytest.raises(SystemCallError):
        Connection(source_port=port)


def test_a_forked_child_opens_its_own_connection(server):
    with Connection() as conn:
        conn.acquire()
        conn.append("file_0", "parent")
        child = os.fork()
        if child == 0:
            in_child(conn)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        conn.append("file_0", " goes on")
        conn.release()
        assert conn.read("file_0") == b"parent goes on"


def in_child(inherited):
    """Checks what a forked child may do, and ends the process: pytest goes on in the parent."""
    try:
        for call in CALLS.values():
            with pytest.raises(NotOpen):
                call(inherited)
        inherited.close()
        with Connection() as own:
            assert own.try_acquire() is None
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def test_statuses_are_those_of_the_header():
    header = Path(__file__).resolve().parents[2] / "include" / "rpc.h"
    if not header.is_file():
        pytest.skip("not in the source tree")
    numbers = dict(re.findall(r"^\s*RPC_(\w+) = (\d+),?$", header.read_text(), re.M))
    assert {name: int(number) for name, number in numbers.items()} == {
        status.name: status.value for status in Status
    }


@pytest.mark.parametrize("status", [status for status in Status if status != Status.OK])
def test_each_status_has_an_exception_that_survives_pickling(status):
    error = error_for(status, "what happened", errno.EPERM)
    assert error.status == status
    assert error.message == "what happened"
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), copy.args) == (type(error), error.args)


def test_a_status_of_a_newer_library_has_an_unknown_outcome():
    assert isinstance(error_for(77, "news"), OutcomeUnknown)


def test_exceptions_are_what_python_programs_expect():
    assert issubclass(baton.FileNotFound, FileNotFoundError)
    assert issubclass(baton.InvalidArgument, ValueError)
    assert issubclass(baton.WouldBlock, TimeoutError)
    assert issubclass(baton.LeaseExpired, LockLost)
    assert issubclass(baton.NotHolder, LockLost)
    exported = [getattr(baton, name) for name in baton.__all__]
    errors = [item for item in exported if inspect.isclass(item) and issubclass(item, Exception)]
    assert all(issubclass(error, BatonError) for error in errors)


def test_a_missing_library_is_explained():
    environment = {**os.environ, "BATON_LIBRARY": "/nowhere/libbaton.so"}
    environment["PYTHONPATH"] = str(Path(baton.__file__).parent.parent)
    importing = subprocess.run(
        [sys.executable, "-c", "import baton"], env=environment, capture_output=True, text=True
    )
    assert importing.returncode == 1
    assert "/nowhere/libbaton.so" in importing.stderr
    assert "cargo build --release" in importing.stderr


def test_the_library_is_of_the_same_version():
    assert baton.library_version() == baton.__version__
