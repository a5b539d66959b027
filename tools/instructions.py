"""Counts the instructions of a section, from bytes to bytes, and holds them against the budget.

    python3 tools/instructions.py [--update]

`examples/cycles.rs` runs sections (acquire, append 32 bytes, release; encode and decode on both
sides, the server's core, a disk that is done at once) under callgrind, so no clock and no other
load plays a part. The difference of two runs leaves out what happens once. benches/instructions.json
has the budget and by how much a count may exceed it; a count that is lower by as much asks for
`--update` too, or the next regression would hide in the gain.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUDGET = ROOT / "benches" / "instructions.json"
TARGET = ROOT / os.environ.get("CARGO_TARGET_DIR", "target")
PROGRAM = TARGET / "release" / "examples" / "cycles"
CLIENTS = {"1 client": 1, "16 clients": 16}
FEW, MANY = 1_000, 6_000


def instructions(sections: int, clients: int) -> int:
    command = [
        "valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null",
        str(PROGRAM), str(sections), str(clients),
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"Collected : (\d+)", result.stderr)
    if result.returncode != 0 or not found:
        sys.exit(f"callgrind failed:\n{result.stderr}")
    return int(found.group(1))


def main() -> int:
    if shutil.which("valgrind") is None:
        print("instructions: NOT CHECKED: valgrind is not installed", file=sys.stderr)
        return 0
    build = ["cargo", "build", "--quiet", "--release", "--locked", "--example", "cycles"]
    subprocess.run(build, cwd=ROOT, check=True)
    budget = json.loads(BUDGET.read_text())
    tolerance = budget["tolerance"]
    counted, is_good = {}, True
    for name, clients in CLIENTS.items():
        runs = [instructions(sections, clients) for sections in (FEW, MANY)]
        counted[name] = (runs[1] - runs[0]) // (MANY - FEW)
        expected = budget["per_section"][name]
        change = counted[name] / expected - 1
        verdict = "ok"
        if change > tolerance:
            verdict, is_good = "TOO MANY", False
        elif change < -tolerance:
            verdict = "fewer: record it with `make instructions-update`"
        print(f"{name:>12}: {counted[name]} of {expected} per section ({change:+.1%}) {verdict}")
    if "--update" in sys.argv[1:]:
        budget["per_section"] = counted
        BUDGET.write_text(json.dumps(budget, indent=2) + "\n")
        return 0
    if not is_good:
        print(
            "instructions: a request costs more than before. If that is worth it, say why in the "
            "commit that runs `make instructions-update`.",
            file=sys.stderr,
        )
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
