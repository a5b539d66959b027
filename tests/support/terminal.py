"""A program in a terminal of its own, as a person sees it: keys are typed, what appears is awaited."""

import os
import pty
import select
import sys
import time
from typing import NoReturn

PATIENCE_S = 20


class Terminal:
    def __init__(self, *command: str, **environment: str) -> None:
        self.seen = ""
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm", COLUMNS="100", LINES="30")
            os.environ.update(environment)
            os.execvp(command[0], command)

    def type(self, keys: str) -> None:
        os.write(self.terminal, keys.encode())

    def expect(self, text: str) -> str:
        """Wait until the text has appeared, and forget it and what came before it, which is
        returned."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.seen:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.terminal], [], [], left)[0]:
                fail(f"no {text!r} in:\n{self.seen}")
            try:
                self.seen += os.read(self.terminal, 4096).decode(errors="replace")
            except OSError:  # nobody has the terminal open any more
                fail(f"no {text!r}, and the program has ended, in:\n{self.seen}")
        before, _, self.seen = self.seen.partition(text)
        return before

    def wait(self) -> int:
        """Take in what else appears until the program has ended; its exit status, negative for a
        signal."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.terminal], [], [], left)[0]:
                fail(f"the program has not ended in:\n{self.seen}")
            try:
                data = os.read(self.terminal, 4096)
            except OSError:
                break
            if not data:
                break
            self.seen += data.decode(errors="replace")
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def fail(what: str) -> NoReturn:
    print(what)
    sys.exit(1)
