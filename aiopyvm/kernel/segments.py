"""Segment registers as the kernel loads them: from a signal frame, and after a TLS descriptor changed."""

from __future__ import annotations

from typing import Final

from aiopyvm.isa.state import CODE_ACCESS, DATA_ACCESS, FIRST_TLS_ENTRY, TLS_ENTRIES, USER_CS, USER_DS, CpuState

_LIMIT_4G: Final = 0xFFFFFFFF


def descriptor(cpu: CpuState, selector: int) -> tuple[int, int, int] | None:
    """Return (base, limit, access) of a user segment; None where there is none."""
    if selector | 3 == USER_DS:
        return 0, _LIMIT_4G, DATA_ACCESS
    if selector | 3 == USER_CS:
        return 0, _LIMIT_4G, CODE_ACCESS
    entry = (selector >> 3) - FIRST_TLS_ENTRY
    if selector & 4 or not 0 <= entry < TLS_ENTRIES or not cpu.tls[entry].access & 0x8000:
        return None
    tls = cpu.tls[entry]
    return tls.base, tls.limit, tls.access


def load_data_segment(cpu: CpuState, name: str, selector: int) -> None:
    """Load DS, ES, FS or GS; a selector that names no readable segment loads as null, as Linux makes it."""
    found = descriptor(cpu, selector) if selector & ~3 else None
    if found is not None and found[2] & 0x800 and not found[2] & 0x200:
        found = None  # execute-only code
    base, limit, access = found or (0, 0, 0)
    setattr(cpu, name, selector & 0xFFFF if found or not selector & ~3 else 0)
    setattr(cpu, f"{name}_base", base)
    setattr(cpu, f"{name}_limit", limit)
    setattr(cpu, f"{name}_access", access)


def load_code_or_stack(cpu: CpuState, name: str, selector: int) -> bool:
    """Load CS or SS with RPL 3; False, and nothing loaded, where IRET would fault."""
    selector |= 3
    found = descriptor(cpu, selector)
    is_code = found is not None and bool(found[2] & 0x800)
    if found is None or is_code != (name == "cs") or (name == "ss" and not found[2] & 0x200):
        return False
    setattr(cpu, name, selector)
    setattr(cpu, f"{name}_base", found[0])
    setattr(cpu, f"{name}_limit", found[1])
    setattr(cpu, f"{name}_access", found[2])
    return True


def refresh(cpu: CpuState) -> None:
    """Reload the data segments that refer to a TLS entry, as the next switch to the thread would."""
    for name in ("ds", "es", "fs", "gs"):
        selector = getattr(cpu, name)
        if FIRST_TLS_ENTRY <= selector >> 3 < FIRST_TLS_ENTRY + TLS_ENTRIES:
            load_data_segment(cpu, name, selector)
