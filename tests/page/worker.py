"""A client that works for the page's tests: `worker.py NAME HOST SECTIONS PAUSE TEXT`.

It calls itself NAME (its process name) and, where that is permitted, its machine HOST; each section
appends TEXT to two files and lasts PAUSE seconds. SECTIONS 0: it holds the lock until it is killed.
"""

import contextlib
import ctypes
import socket
import sys
import time

name, host, sections, pause, text = sys.argv[1:]
with open("/proc/self/comm", "wb") as comm:
    comm.write(name.encode()[:15])
CLONE_NEWUTS = 0x04000000
if host and ctypes.CDLL(None).unshare(CLONE_NEWUTS) == 0:
    with contextlib.suppress(OSError):
        socket.sethostname(host.encode()[:63])

import baton  # noqa: E402 - after the names that it reads

with baton.Connection() as connection:
    for number in range(int(sections) or 1):
        with connection.lock() as grant:
            grant.append("file_0", f"{text} {number}\n")
            grant.append("file_12", text + "\n")
            print("holds", flush=True)
            time.sleep(float(pause) if int(sections) else 3600)
