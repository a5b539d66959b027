"""Progress bars and colours of `baton append`, `cat` and `who`, in a terminal.

The one argument is the program baton; BATON_SERVER says where the server is. `input` is 20 MB.
"""

import sys

from terminal import Terminal, fail

BATON = sys.argv[1]


def ends_well(terminal: Terminal) -> str:
    if (status := terminal.wait()) != 0:
        fail(f"ended with {status}: {terminal.seen}")
    return terminal.seen


def main() -> None:
    # A bar while the input is sent; it is gone at the end.
    seen = ends_well(Terminal("sh", "-c", f"{BATON} append file_0 <input"))
    if "MiB appended" not in seen or "left" not in seen:
        fail(f"no progress in {seen!r}")
    # The same while it is read into a file.
    seen = ends_well(Terminal("sh", "-c", f"{BATON} cat file_0 >output && cmp input output"))
    if "MiB printed" not in seen:
        fail(f"no progress in {seen!r}")
    # Nothing of the kind where standard error is no terminal.
    seen = ends_well(Terminal("sh", "-c", f"{BATON} cat file_0 2>errors >output; cat errors"))
    if seen:
        fail(f"it says {seen!r}")

    bold = "\x1b[1m"
    who = f"{BATON} lock {BATON} who"
    for command, environment, is_coloured in [
        (who, {}, True),
        (who, {"NO_COLOR": "1"}, False),
        (f"{who} | cat", {}, False),
        (f"{BATON} --help", {}, True),
        (f"{BATON} --help", {"NO_COLOR": "1"}, False),
        (f"{BATON} --help | cat", {}, False),
    ]:
        seen = ends_well(Terminal("sh", "-c", command, **environment))
        if ("\x1b[" in seen) != is_coloured or (is_coloured and bold not in seen):
            fail(f"{command} with {environment}: {seen!r}")


main()
