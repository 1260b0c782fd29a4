"""The whole system-call table: importing this imports every family, and so fills `TABLE`."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Final

from aiopyvm import syscalls
from aiopyvm.syscalls.spec import TABLE

# What is in the package and no family.
MACHINERY: Final = frozenset({"accounting", "dispatch", "spec", "steps", "strace", "table"})

FAMILIES: Final = tuple(
    sorted(module.name for module in pkgutil.iter_modules(syscalls.__path__) if module.name not in MACHINERY)
)

for _name in FAMILIES:
    importlib.import_module(f"{syscalls.__name__}.{_name}")

__all__ = ["FAMILIES", "TABLE"]
