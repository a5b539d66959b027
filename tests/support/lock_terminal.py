"""`baton lock` in a terminal: an interactive shell on a pty starts it, keys are typed.

The one argument is the program baton; BATON_SERVER says where the server is.
"""

import os
import pty
import select
import sys
import time

BATON = sys.argv[1]
PATIENCE_S = 20


def main() -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ.update(PS1="READY ", TERM="dumb")
        os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
    shell = Shell(terminal)
    shell.expect("READY")

    shell.type(f"{BATON} lock sh -c 'echo up; read line; echo got-$line'\n")
    shell.expect("up\r\n")
    shell.type("something\n")
    shell.expect("got-something")

    # The whole foreground gets it: the command, not the shell.
    shell.type(f"{BATON} lock sh -c 'echo up2; sleep 30'; echo status $?\n")
    shell.expect("up2\r\n")
    shell.type("\x03")
    shell.expect("status 130")

    # Stopped, the shell has the terminal; continued in time, the command goes on.
    shell.type(f"{BATON} lock sh -c 'echo up3; read line; echo line-$line'\n")
    shell.expect("up3\r\n")
    shell.type("\x1a")
    shell.expect("stopped; unless continued")
    shell.type("fg\n")
    shell.type("again\n")
    shell.expect("line-again")

    shell.type("exit\n")
    os.waitpid(pid, 0)


class Shell:
    def __init__(self, terminal: int) -> None:
        self.terminal = terminal
        self.seen = ""

    def type(self, keys: str) -> None:
        os.write(self.terminal, keys.encode())

    def expect(self, text: str) -> None:
        """Wait until the text has appeared, and forget what came before it."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.seen:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.terminal], [], [], left)[0]:
                print(f"no {text!r} in:\n{self.seen}")
                sys.exit(1)
            self.seen += os.read(self.terminal, 4096).decode(errors="replace")
        self.seen = self.seen.partition(text)[2]


main()
