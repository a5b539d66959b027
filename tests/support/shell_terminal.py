"""`baton shell` in a terminal: two of them, and a person at each.

The one argument is the program baton; BATON_SERVER says where the server is, whose lease is 1 s.
"""

import os
import signal
import sys
from pathlib import Path

from terminal import Terminal, fail

BATON = sys.argv[1]
STATE = os.getcwd()


def shell() -> Terminal:
    terminal = Terminal(BATON, "shell", XDG_STATE_HOME=STATE)
    terminal.expect("connected to ")
    terminal.expect("baton> ")
    return terminal


def main() -> None:
    one, other = shell(), shell()

    # Tab completes commands and files, the prompt shows token and lease.
    one.type("acq\t\r")
    one.expect("the lock is held: token ")
    one.expect("baton [token ")
    one.expect(" left]> ")
    one.type("app\tfile_2\thello\r")
    one.expect("staged for file_2")

    # Ctrl-C ends the wait, not the shell, and leaves the queue.
    other.type("try\r")
    other.expect("the lock is not free")
    other.type("acquire\r")
    other.expect("Ctrl-C leaves the queue")
    other.type("\x03")
    other.expect("the lock is not free")
    other.expect("baton> ")

    # Who stalls loses the lock to who waits, and is told when it goes on.
    one.type("stall 3\r")
    one.expect("stalling for 3.0 s")
    other.type("acquire\r")
    other.expect("the lock is held: token ")
    other.type("append file_2 mine\rrelease\r")
    other.expect("released: 5 B published")
    one.expect("lease over]> ")
    one.type("release\r")
    one.expect("lease expired")
    one.expect("baton> ")
    one.type("cat file_2\r")
    one.expect("mine")
    one.type("\x1b[A\r")  # the line before, once more
    one.expect("mine")

    # Ctrl-C ends a stall too, and drops a line that is not meant.
    one.type("stall 50\r")
    one.expect("stalling for 50.0 s")
    one.type("\x03")
    one.expect("baton> ")
    one.type("nonsense")
    one.type("\x03")
    one.expect("baton> ")
    one.type("nonsense\r")
    one.expect("help lists them")

    # Who is killed holds the lock until the lease ends.
    one.type("acquire\r")
    one.expect(" left]> ")
    one.type("kill\r")
    if (status := one.wait()) != -signal.SIGKILL:
        fail(f"kill ended with {status}")
    other.type("acquire\r")
    other.expect("waiting")
    other.expect("the lock is held: token ")

    # Ctrl-D ends; what was not released is discarded, the history is kept.
    other.type("append file_2 never\r")
    other.expect("staged")
    other.expect("]> ")  # before that the terminal takes it for the end of an empty line
    other.type("\x04")
    if (status := other.wait()) != 0:
        fail(f"Ctrl-D ended with {status}")
    if "6 B discarded" not in other.seen:
        fail(f"nothing about what was discarded in {other.seen!r}")
    if "append file_2 never" not in Path(STATE, "baton/shell-history").read_text():
        fail("the history was not kept")
    again = shell()
    again.type("\x1b[A")
    again.expect("append file_2 never")
    again.type("\x03")
    again.expect("baton> ")
    again.type("quit\r")
    if (status := again.wait()) != 0:
        fail(f"quit ended with {status}")


main()
