#!/usr/bin/env python3
"""Decides whether a server kept its promises, from its clients' journals and its data files alone.

    check_journal.py [--lossy] [--expiring] DATA_DIRECTORY JOURNAL...

The journals are those of tests/c/torture_client.c, which describes their lines. Checked:

  acknowledged   a section whose release returned 0 is in the files once, whole
  all or nothing any other section whose release was called is there once, whole, or not at all
  unpublished    a section that was aborted, or never released, is not there at all
  whole          lines are exactly as appended, in order, with no other section's between them
  order          in each file, sections stand in the order of their tokens
  tokens         no token is granted twice; each client's tokens rise
  expired        a section whose release was told that the lease had run out is not there at all
  exclusion      from a grant to the call of release or abort, no other client has the lock, and
                 whoever has it later has a greater token; expired sections excepted
  statuses       every call ended with ok, except try and timed acquires ("would block"), and with
                 --lossy a close, which gives up soon when it holds nothing ("timed out"), and with
                 --expiring a section's calls, whose lease may have run out

Prints what it found and exits with 0 if all holds, with 1 if not, and with 2 for bad input.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

OK, LEASE_EXPIRED, WOULD_BLOCK, TIMED_OUT = 0, 3, 4, 5
PROBLEMS_SHOWN = 20


@dataclass
class Section:
    """What a client did in one section and was told about it."""

    client: str
    number: int
    token: int
    granted_ns: int
    left_ns: int | None = None
    appends: list[tuple[str, int, int]] = field(default_factory=list)  # file, k, letters
    is_publishing: bool = False
    is_discarding: bool = False
    release_status: int | None = None
    has_expired: bool = False

    @property
    def name(self) -> str:
        return f"section {self.number} of {self.client} (token {self.token})"

    def lines(self) -> dict[str, list[bytes]]:
        """The lines that it appended, for each file, in order."""
        # The lines say how many there are to be. A section is only published after all of them
        # were acknowledged, so that is the number of acknowledged ones.
        total = len(self.appends)
        found: dict[str, list[bytes]] = {}
        for file, k, letters in self.appends:
            head = f"{self.client} {self.number} {self.token} {k}/{total} "
            letter = chr(ord("a") + k % 26)
            found.setdefault(file, []).append((head + letter * letters).encode())
        return found


class Check:
    """Collects sections and problems."""

    def __init__(self, is_lossy: bool, is_expiring: bool) -> None:
        self.is_lossy = is_lossy
        self.is_expiring = is_expiring
        self.problems: list[str] = []
        self.sections: dict[tuple[str, int], Section] = {}
        self.refused = 0

    def problem(self, text: str) -> None:
        self.problems.append(text)

    def read_journal(self, path: Path) -> None:
        client = path.stem
        has_ended = False
        for number, line in enumerate(path.read_text().splitlines(), 1):
            words = line.split()
            try:
                has_ended |= self.read_line(client, words)
            except (IndexError, ValueError, KeyError) as error:
                raise SystemExit(f"{path}:{number}: bad line {line!r}: {error!r}") from error
        if not has_ended:
            self.problem(f"{client}: the journal does not end with the end of the client")

    def read_line(self, client: str, words: list[str]) -> bool:
        """Takes in one line; true for the last."""
        if words[0] == "end":
            if not (self.is_lossy and int(words[1]) == TIMED_OUT):
                self.expect_ok(f"close of {client}", int(words[1]))
            return True
        key = (client, int(words[1]))
        match words[0]:
            case "grant":
                if key in self.sections:
                    raise ValueError("a section began twice")
                self.sections[key] = Section(client, key[1], int(words[2]), int(words[3]))
            case "refused":
                self.refused += 1
                if int(words[2]) != WOULD_BLOCK:
                    self.expect_ok(f"acquire of {client} for section {key[1]}", int(words[2]))
            case "append":
                section = self.sections[key]
                self.expect_held(section, "append in", int(words[5]))
                if int(words[5]) == OK:
                    section.appends.append((words[2], int(words[3]), int(words[4])))
            case "publish":
                self.sections[key].is_publishing = True
                self.sections[key].left_ns = int(words[2])
            case "released":
                section = self.sections[key]
                section.release_status = int(words[2])
                self.expect_held(section, "release of", int(words[2]))
            case "discard":
                self.sections[key].is_discarding = True
                self.sections[key].left_ns = int(words[2])
            case "aborted":
                self.expect_held(self.sections[key], "abort of", int(words[2]))
            case _:
                raise ValueError("unknown kind of line")
        return False

    def expect_held(self, section: Section, what: str, status: int) -> None:
        if self.is_expiring and status == LEASE_EXPIRED:
            section.has_expired = True
        else:
            self.expect_ok(f"{what} {section.name}", status)

    def expect_ok(self, what: str, status: int) -> None:
        if status != OK:
            self.problem(f"status {status} from {what}")

    def check_tokens(self) -> None:
        holders: dict[int, Section] = {}
        newest: dict[str, int] = {}
        for section in self.sections.values():
            other = holders.setdefault(section.token, section)
            if other is not section:
                self.problem(f"token granted twice: {other.name} and {section.name}")
            if section.token <= newest.get(section.client, 0):
                self.problem(f"token of {section.name} is not above the client's earlier ones")
            newest[section.client] = section.token

    def check_exclusion(self) -> None:
        """A grant is heard after it was given and a release is called before it is carried out,
        so the time between the two lies inside the time for which the lock was held. One that has
        expired may have been stopped before it wrote down either."""
        before: Section | None = None
        held = [section for section in self.sections.values() if not section.has_expired]
        for section in sorted(held, key=lambda s: s.granted_ns):
            if before is not None:
                if before.left_ns is not None and before.left_ns > section.granted_ns:
                    self.problem(f"{section.name} was granted while {before.name} had the lock")
                if before.token >= section.token:
                    self.problem(f"{section.name} came after {before.name}: tokens must rise")
            before = section

    def check_files(self, directory: Path) -> int:
        """Compares the files with the journals; returns the number of sections found."""
        found: dict[tuple[str, int], set[str]] = {}
        for path in sorted(directory.glob("file_*")):
            self.check_file(path, found)
        for key, section in self.sections.items():
            self.check_presence(section, found.get(key, set()))
        return len(found)

    def check_file(self, path: Path, found: dict[tuple[str, int], set[str]]) -> None:
        content = path.read_bytes()
        if content and not content.endswith(b"\n"):
            self.problem(f"{path.name} ends within a line: {content[-60:]!r}")
        lines = content.split(b"\n")[:-1]
        newest = 0
        at = 0
        while at < len(lines):
            section = self.section_of(lines[at])
            if section is None:
                self.problem(f"{path.name}, line {at + 1}: no known section: {lines[at][:60]!r}")
                at += 1
                continue
            wanted = section.lines().get(path.name, [])
            here = lines[at : at + len(wanted)]
            if not wanted or here != wanted:
                self.problem(
                    f"{path.name}, line {at + 1}: {section.name} is not whole or not as appended"
                )
                at += 1
                continue
            key = (section.client, section.number)
            if path.name in found.get(key, set()):
                self.problem(f"{path.name}, line {at + 1}: {section.name} is there twice")
            found.setdefault(key, set()).add(path.name)
            if section.token <= newest:
                self.problem(
                    f"{path.name}, line {at + 1}: {section.name} stands after token {newest}"
                )
            newest = max(newest, section.token)
            at += len(wanted)

    def section_of(self, line: bytes) -> Section | None:
        try:
            client, number, _ = line.decode().split(" ", 2)
            return self.sections.get((client, int(number)))
        except ValueError:
            return None

    def check_presence(self, section: Section, files: set[str]) -> None:
        wanted = set(section.lines())
        if section.is_publishing and section.release_status == OK:
            if files != wanted:
                missing = ", ".join(sorted(wanted - files))
                self.problem(f"{section.name}: acknowledged, but missing in {missing}")
        elif section.has_expired and files:
            self.problem(f"{section.name}: had expired, yet in {', '.join(sorted(files))}")
        elif section.is_publishing:
            if files and files != wanted:
                missing = ", ".join(sorted(wanted - files))
                self.problem(f"{section.name}: published in part, missing in {missing}")
        elif files:
            self.problem(f"{section.name}: never released, yet in {', '.join(sorted(files))}")


def main(arguments: list[str]) -> int:
    options = {argument for argument in arguments if argument in ("--lossy", "--expiring")}
    arguments = [argument for argument in arguments if argument not in options]
    if len(arguments) < 2 or not Path(arguments[0]).is_dir():
        print(__doc__, file=sys.stderr)
        return 2
    check = Check("--lossy" in options, "--expiring" in options)
    for journal in arguments[1:]:
        check.read_journal(Path(journal))
    check.check_tokens()
    check.check_exclusion()
    found = check.check_files(Path(arguments[0]))
    sections = check.sections.values()
    acknowledged = sum(s.is_publishing and s.release_status == OK for s in sections)
    discarded = sum(s.is_discarding for s in sections)
    expired = sum(s.has_expired for s in sections)
    print(
        f"{len(sections)} sections: {acknowledged} acknowledged, {discarded} aborted, {expired} expired,"
        f" {found} found in the files; {check.refused} acquires gave up"
    )
    for problem in check.problems[:PROBLEMS_SHOWN]:
        print(f"PROBLEM: {problem}")
    if len(check.problems) > PROBLEMS_SHOWN:
        print(f"... and {len(check.problems) - PROBLEMS_SHOWN} more problems")
    return 1 if check.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
