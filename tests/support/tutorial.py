"""Runs a tutorial's `console` blocks in one shell and compares the output with what they say.

Arguments: the document, and the directory of the programs. Ports of the document are replaced by free ones.
"""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

END = "end-of-command-7f3a"
COMMAND_PATIENCE_S = 60


def main() -> int:
    text = Path(sys.argv[1]).read_text()
    for port in sorted(set(re.findall(r"127\.0\.0\.1:(\d+)", text))):
        text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{free_port()}")
    blocks = re.findall(r"^```console\n(.*?)^```$", text, re.M | re.S)
    commands = [command for block in blocks for command in re.split(r"^\$ ", block, flags=re.M)[1:]]
    assert commands, "a tutorial has commands"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("BATON_")}
    environment["PATH"] = f"{sys.argv[2]}:{environment['PATH']}"
    shell = subprocess.Popen(
        ["bash", "--norc"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
        text=True,
    )
    try:
        return run(shell, commands)
    finally:
        # Whatever the tutorial left running is in the shell's group.
        os.killpg(shell.pid, signal.SIGKILL)
        shell.wait()


def run(shell: subprocess.Popen[str], commands: list[str]) -> int:
    for command in commands:
        line, _, expected = command.partition("\n")
        signal.alarm(COMMAND_PATIENCE_S)
        shell.stdin.write(f"{line}\necho {END}\n")
        shell.stdin.flush()
        output = ""
        for answer in shell.stdout:
            if answer.startswith(END):
                break
            # What the shell says about its jobs is not the commands' output.
            if not re.match(r"bash: line \d+: +\d+ (Killed|Terminated)", answer):
                output += answer
        pattern = ".*".join(re.escape(part) for part in expected.split("…"))
        if not re.fullmatch(pattern, output):
            print(f"$ {line}\nshould print:\n{expected}\nbut printed:\n{output}")
            return 1
    return 0


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


sys.exit(main())
