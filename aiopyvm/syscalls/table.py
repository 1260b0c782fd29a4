"""The whole system-call table: importing this imports every family, and so fills `TABLE`.

A run imports a family when a guest makes one of its calls (`dispatch.py`), by the numbers in `index.py`.
`python -m aiopyvm.syscalls.table` writes that file.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import Final

from aiopyvm import syscalls
from aiopyvm.syscalls.spec import TABLE

# What is in the package and no family.
MACHINERY: Final = frozenset(
    {"accounting", "atonce", "control", "dispatch", "index", "spec", "steps", "strace", "straceforms", "table"}
)

FAMILIES: Final = tuple(
    sorted(module.name for module in pkgutil.iter_modules(syscalls.__path__) if module.name not in MACHINERY)
)

for _name in FAMILIES:
    importlib.import_module(f"{syscalls.__name__}.{_name}")


def numbers() -> dict[str, tuple[int, ...]]:
    """Return the numbers of each family's calls."""
    found: dict[str, list[int]] = {}
    for number, row in sorted(TABLE.items()):
        found.setdefault(row.handler.__module__.rpartition(".")[2], []).append(number)
    return {family: tuple(found[family]) for family in sorted(found)}


def index_text() -> str:
    """Return what `index.py` has to say."""
    lines = [_HEAD]
    for family, listed in numbers().items():
        lines += [f'    "{family}": (', *(f"        {number},  # {TABLE[number].name}" for number in listed), "    ),"]
    return "\n".join([*lines, _TAIL])


_HEAD: Final = '''"""Which family has which calls: `python -m aiopyvm.syscalls.table` writes it, from the families."""

from __future__ import annotations

from typing import Final

NUMBERS: Final[dict[str, tuple[int, ...]]] = {'''
_TAIL: Final = """}
FAMILY: Final = {number: family for family, numbers in NUMBERS.items() for number in numbers}
"""

if __name__ == "__main__":
    Path(__file__).with_name("index.py").write_text(index_text())

__all__ = ["FAMILIES", "TABLE", "index_text", "numbers"]
