#!/usr/bin/env python3
"""Makes the manual pages of section 3 from the comments of the C headers.

    tools/man3.py VERSION HEADER... DIRECTORY

One page for each function. A comment consists of paragraphs; one that begins with a word and a
colon ("Returns, in order of precedence:") becomes a section, a dashed list becomes tagged items, a
fenced block an example.
"""

import re
import sys
from pathlib import Path

# A comment block directly followed by a declaration of a function.
DECLARED = re.compile(r"/\*\*\n((?: \*.*\n)+?) \*/\n([a-z][^;{}/#]*?\b(\w+)\([^;]*\));", re.M)
SECTION = re.compile(r"(?:# )?([A-Z][a-z]+)(, [^:]+)?(?::|$)\s*", re.M)
KNOWN = {"Parameters", "Blocks", "State", "Returns", "Threads", "Since", "Example", "Safety"}


def roff(text: str) -> str:
    """Text in which nothing means anything to roff, and `code` is bold."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    text = re.sub(r"`([^`]*)`", r"\\fB\1\\fP", text)
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.M)


def body(comment: str) -> str:
    """The sections of a page after its description's heading."""
    lines: list[str] = []
    in_code = False
    for line in comment.splitlines():
        line = line.removeprefix(" *").removeprefix(" ")
        heading = None if in_code else SECTION.match(line)
        if line.startswith("```"):
            lines.append(".EE\n.in" if in_code else ".in +4n\n.EX")
            in_code = not in_code
        elif in_code:
            lines.append(roff(line) or "\\&")
        elif heading and heading[1] in KNOWN:
            title = heading[1].upper() + (heading[2] or "")
            lines.append(f'.SH "{title}"')
            if rest := line[heading.end() :]:
                lines.append(roff(rest))
        elif item := re.match(r"- `([^`]*)`( \([^)]*\))?: (.*)", line):
            lines.append(f".TP\n{roff(f'`{item[1]}`')}{item[2] or ''}\n{roff(item[3])}")
        elif not line:
            lines.append(".PP")
        else:
            lines.append(roff(line.strip()))
    # A paragraph break before a heading, or twice, is a mistake in roff's eyes.
    text = "\n".join(lines)
    return re.sub(r"(\.PP\n)+(?=\.SH|\.TP|\.PP)|(?<=\n)\.PP$", "", text).rstrip() + "\n"


def page(header: str, version: str, comment: str, declaration: str, name: str) -> str:
    first = comment.splitlines()[0].removeprefix(" * ")
    purpose = re.split(r"(?<=[.])(?: |$)|[:;,]", first)[0].rstrip(".")
    purpose = purpose[0].lower() + purpose[1:]
    synopsis = roff(re.sub(r"\s+", " ", declaration)).replace('"', "")
    return (
        f'.TH {name} 3 "" "Baton {version}" "Baton"\n'
        f".SH NAME\n{name} \\- {roff(purpose)}\n"
        f".SH SYNOPSIS\n.nf\n#include <{header}>\n.PP\n\\fB{synopsis};\\fP\n.fi\n"
        f".PP\ncc app.c $(pkg\\-config \\-\\-cflags \\-\\-libs baton)\n"
        f".SH DESCRIPTION\n{body(comment)}"
    )


def main() -> None:
    version, *headers, directory = sys.argv[1:]
    target = Path(directory)
    target.mkdir(parents=True, exist_ok=True)
    for header in headers:
        text = Path(header).read_text()
        for comment, declaration, name in DECLARED.findall(text):
            content = page(Path(header).name, version, comment, declaration, name)
            (target / f"{name}.3").write_text(content)


if __name__ == "__main__":
    main()
