"""`baton lock` in a terminal: an interactive shell on a pty starts it, keys are typed.

The one argument is the program baton; BATON_SERVER says where the server is.
"""

import sys

from terminal import Terminal

BATON = sys.argv[1]


def main() -> None:
    shell = Terminal("bash", "--norc", "--noprofile", "-i", PS1="READY ", TERM="dumb")
    shell.expect("READY")

    shell.type(f"{BATON} lock sh -c 'echo up; read line; echo got-$line'\n")
    shell.expect("up\r\n")
    shell.type("something\n")
    shell.expect("got-something")

    # The whole foreground gets it: the command, not the shell. With exec, since a shell that is about
    # to start a child may take it for meant for the child alone.
    shell.type(f"{BATON} lock sh -c 'echo up2; exec sleep 30'; echo status $?\n")
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
    shell.wait()


main()
