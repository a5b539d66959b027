"""``python -m baton`` as a person runs it."""

from __future__ import annotations

import os
import subprocess
import sys


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "baton", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_self_test_passes_against_a_good_server(server):
    result = run()
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("all is well\n")


def test_self_test_says_that_no_server_answers():
    result = run("127.0.0.1:9", BATON_TIMEOUT_MS="200")
    assert result.returncode == 69
    assert "is batond running there?" in result.stderr
