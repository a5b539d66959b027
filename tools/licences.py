"""Writes THIRD-PARTY-LICENSES.txt: the licences of the crates that are linked into what is shipped.

    python3 tools/licences.py [--check]

The texts are those that each crate came with. With --check it writes nothing and fails when the
file does not name exactly the crates and versions that are in use. `make deny` checks that the
licences are acceptable.
"""

import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILE = ROOT / "THIRD-PARTY-LICENSES.txt"
NAMES = re.compile(r"(LICEN[CS]E|COPYING|COPYRIGHT|NOTICE|UNLICENSE)", re.IGNORECASE)
TARGET = "x86_64-unknown-linux-gnu"
LINE = "=" * 80


def linked() -> list[dict]:
    """The crates that are linked in, without those that only build or test."""
    command = ["cargo", "metadata", "--format-version=1", "--locked", f"--filter-platform={TARGET}"]
    metadata = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout)
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    packages = {package["id"]: package for package in metadata["packages"]}
    root = metadata["resolve"]["root"]
    found, ahead = set(), [root]
    while ahead:
        for dependency in nodes[ahead.pop()]["deps"]:
            kinds = [kind["kind"] for kind in dependency["dep_kinds"]]
            is_macro = any(
                "proc-macro" in target["kind"] for target in packages[dependency["pkg"]]["targets"]
            )
            if None in kinds and not is_macro and dependency["pkg"] not in found:
                found.add(dependency["pkg"])
                ahead.append(dependency["pkg"])
    return sorted((packages[one] for one in found), key=lambda one: (one["name"], one["version"]))


def text_of(package: dict) -> str:
    """All licence files of a crate."""
    folder = pathlib.Path(package["manifest_path"]).parent
    files = sorted(path for path in folder.iterdir() if path.is_file() and NAMES.match(path.name))
    texts = [path.read_text(errors="replace").strip() for path in files]
    return "\n\n".join(text.replace("\r\n", "\n") for text in texts)


def main() -> int:
    packages = linked()
    if "--check" in sys.argv[1:]:
        named = set(re.findall(r"^  (\S+) (\S+) \(", FILE.read_text(), re.MULTILINE))
        wanted = {(package["name"], package["version"]) for package in packages}
        for name, version in sorted(wanted - named):
            print(f"{FILE.name} lacks {name} {version}: make licences", file=sys.stderr)
        for name, version in sorted(named - wanted):
            print(f"{FILE.name} has {name} {version} too many: make licences", file=sys.stderr)
        return int(wanted != named)
    by_text: dict[str, list[dict]] = {}
    for package in packages:
        by_text.setdefault(text_of(package), []).append(package)
    parts = [
        "The crates that are linked into Baton's programs and library, and their licences.\n"
        "Made by `make licences`; Baton's own licences are LICENSE-MIT and LICENSE-APACHE.\n"
    ]
    for text, users in by_text.items():
        heads = [f"  {one['name']} {one['version']} ({one['license']})" for one in users]
        without = "The crate names its licence and comes without the text."
        parts.append("\n".join([LINE, *heads, "", text or without, ""]))
    FILE.write_text("\n".join(parts))
    print(f"{FILE.name}: {len(packages)} crates, {len(by_text)} texts")
    return 0


if __name__ == "__main__":
    sys.exit(main())
