"""Build hook: packs the C library into the wheel and derives the wheel's platform tag from it.

The library is what ``BATON_WHEEL_LIBRARY`` names; without it the wheel would not work, so there is
no wheel. The wheel is for every Python 3 (``py3-none``): the library knows nothing of Python.
"""

import os
import platform
import re
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


def platform_tag(library: bytes) -> str:
    """The oldest Linux that has all the C library symbols that `library` needs (PEP 600).

    The versions of the symbols stand as names in the ELF string table. A library that needs no
    glibc was built for another C library, about which no tag says anything.
    """
    machine = platform.machine()
    versions = re.findall(rb"\0GLIBC_(\d+)\.(\d+)(?=[.\0])", library)
    if not versions:
        return f"linux_{machine}"
    major, minor = max((int(major), int(minor)) for major, minor in versions)
    return f"manylinux_{major}_{minor}_{machine}"


class LibraryHook(BuildHookInterface[Any]):
    """Adds ``baton/libbaton.so.0``."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it builds the wheel."""
        if version == "editable":
            return
        named = os.environ.get("BATON_WHEEL_LIBRARY")
        if not named:
            raise RuntimeError("let BATON_WHEEL_LIBRARY name libbaton.so, or use `make wheel`")
        library = Path(named)
        build_data["force_include"][str(library.resolve())] = "baton/libbaton.so.0"
        for licence in Path(self.root).parent.glob("LICENSE*"):
            build_data["force_include"][str(licence)] = f"baton/{licence.name}"
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform_tag(library.read_bytes())}"
