"""What goes into a file comes out of it."""

from __future__ import annotations

import random

import pytest

from baton import Connection, InvalidArgument, TooLarge


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("text", b"text"),
        ("Grüße ✓", "Grüße ✓".encode()),
        (b"bytes", b"bytes"),
        (bytearray(b"array"), b"array"),
        (memoryview(b"a view")[2:], b"view"),
        (b"\0a\0\0b\0", b"\0a\0\0b\0"),
        ("in text \0 too", b"in text \0 too"),
        (bytes(range(256)), bytes(range(256))),
        (b"", b""),
        ("", b""),
    ],
)
def test_data_arrives_byte_for_byte(server, data, expected):
    with Connection() as conn:
        with conn.lock() as grant:
            grant.append("file_0", data)
        assert conn.read("file_0") == expected
    assert server.content("file_0") == expected


@pytest.mark.parametrize("size", [1023, 1024, 1200, 1201, 65536, 1 << 20, (1 << 20) + 1])
def test_a_large_append_arrives_whole(server, size):
    data = random.Random(size).randbytes(size)
    with Connection() as conn:
        with conn.lock() as grant:
            grant.append("file_0", b"<")
            grant.append("file_0", data)
            grant.append("file_0", b">")
        assert server.content("file_0") == b"<" + data + b">"
        assert conn.read("file_0") == b"<" + data + b">"


def test_a_section_may_write_to_every_file(server):
    with Connection() as conn:
        with conn.lock() as grant:
            for number in range(100):
                grant.append(f"file_{number}", f"{number}")
        for number in (0, 57, 99):
            assert conn.read(f"file_{number}") == str(number).encode()


def test_any_part_of_a_file_can_be_read():
    content = bytes(range(256)) * 20
    with Connection() as conn:
        with conn.lock() as grant:
            grant.append("file_0", content)
        for offset in (0, 1, 1023, 1024, 1025, 5000, 5119, 5120, 5121, 2**63):
            for length in (None, 0, 1, 1024, 1025, 9999):
                end = None if length is None else offset + length
                assert conn.read("file_0", offset, length) == content[offset:end]


@pytest.mark.server_args("--section-limit", "4KiB")
def test_a_section_over_the_limit_keeps_what_it_had(server):
    with Connection() as conn:
        with conn.lock() as grant:
            grant.append("file_0", "a" * 4000)
            with pytest.raises(TooLarge):
                grant.append("file_0", "b" * 4000)
            grant.append("file_0", "c" * 96)
        assert conn.read("file_0") == b"a" * 4000 + b"c" * 96


def test_a_name_with_a_nul_is_no_shorter_name(server):
    with Connection() as conn:
        with conn.lock() as grant:
            with pytest.raises(ValueError, match="NUL"):
                grant.append("file_0\0x", "A")
        with pytest.raises(InvalidArgument, match="NUL"):
            conn.read("file_0\0x")
    assert server.content("file_0") == b""


@pytest.mark.parametrize("where", [{"offset": -1}, {"offset": 2**64}, {"length": -1}])
def test_a_place_that_is_none_cannot_be_read(where):
    with Connection() as conn, pytest.raises(InvalidArgument):
        conn.read("file_0", **where)


def test_data_of_another_type_is_refused(server):
    with Connection() as conn, pytest.raises(TypeError), conn.lock() as grant:
        grant.append("file_0", "A")
        grant.append("file_0", 17)
    assert server.content("file_0") == b""
