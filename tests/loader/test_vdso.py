"""The vdso as a library: what pyelftools and the C library read of it, and that programs get it."""

from __future__ import annotations

import io

import pytest
from elftools.dwarf.callframe import FDE
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerDefSection
from elftools.elf.sections import SymbolTableSection

from aiopyvm import assemble, disassemble
from aiopyvm.loader.vdso import RT_SIGRETURN, SIGRETURN, VSYSCALL, build_vdso
from aiopyvm.loader.vdsoclocks import NOW, ROUTINES, Routine, places
from aiopyvm.mem.layout import PAGE

CLOCKS = {r.name: r.offset for r in ROUTINES if r.name.startswith("__vdso_")}
PLACES = {"__kernel_vsyscall": VSYSCALL, "__kernel_sigreturn": SIGRETURN, "__kernel_rt_sigreturn": RT_SIGRETURN}


def test_its_functions_have_names_and_a_version() -> None:
    elf = ELFFile(io.BytesIO(build_vdso()))
    table = elf.get_section_by_name(".dynsym")
    assert isinstance(table, SymbolTableSection)
    names = {s.name: s["st_value"] for s in table.iter_symbols() if s["st_info"]["type"] == "STT_FUNC"}
    assert names == PLACES | CLOCKS
    versions = elf.get_section_by_name(".gnu.version_d")
    assert isinstance(versions, GNUVerDefSection)
    assert [next(aux).name for _, aux in versions.iter_versions()] == ["linux-gate.so.1", "LINUX_2.5", "LINUX_2.6"]
    hashes = [version["vd_hash"] for version, _ in versions.iter_versions()]
    assert hashes[1:] == [0x3AE75F5, 0x3AE75F6]  # as ld(1) has them


def test_its_dynamic_section_agrees_with_its_sections() -> None:
    elf = ELFFile(io.BytesIO(build_vdso()))
    section = elf.get_section_by_name(".dynamic")
    assert isinstance(section, DynamicSection)
    dynamic = {tag.entry.d_tag: tag.entry.d_val for tag in section.iter_tags()}
    for tag, name in (
        ("DT_HASH", ".hash"),
        ("DT_SYMTAB", ".dynsym"),
        ("DT_STRTAB", ".dynstr"),
        ("DT_VERSYM", ".gnu.version"),
        ("DT_VERDEF", ".gnu.version_d"),
    ):
        found = elf.get_section_by_name(name)
        assert found is not None
        assert dynamic[tag] == found["sh_addr"]
    assert len(build_vdso()) == PAGE


def test_an_unwinder_finds_the_frame_of_the_system_call() -> None:
    fde = frames()[0]
    assert (fde["initial_location"], fde["address_range"]) == (VSYSCALL, 3)
    (row,) = fde.get_decoded().table[:1]
    assert (row["cfa"].reg, row["cfa"].offset) == (4, 4)


def test_an_unwinder_finds_the_frames_of_the_clocks() -> None:
    """Where the return address is, is followed through the instructions that move ESP."""
    plain, now = frames()[1:]
    assert plain["initial_location"] == ROUTINES[0].offset
    assert plain["initial_location"] + plain["address_range"] == now["initial_location"] == NOW.offset
    assert now["address_range"] == len(NOW.code)
    told = {row["pc"]: row["cfa"].offset for row in now.get_decoded().table}
    at, cfa, found = NOW.offset, 4, {NOW.offset: 4}
    for line in disassemble(NOW.code, NOW.offset).splitlines():
        at += len(assemble(line, at))
        change = {"push": 4, "add esp, 0x8": -8}.get(line.split()[0] if line.startswith("push") else line, 0)
        cfa = 12 if line == "ret" and at != NOW.offset + len(NOW.code) else cfa + change
        if change or line == "ret":
            found[at] = cfa
    assert told.items() <= found.items()
    assert set(told.values()) == {4, 8, 12}


def frames() -> list[FDE]:
    entries = ELFFile(io.BytesIO(build_vdso())).get_dwarf_info().EH_CFI_entries()
    return [entry for entry in entries if isinstance(entry, FDE)]


@pytest.mark.parametrize("routine", ROUTINES, ids=lambda routine: routine.name)
def test_clocks_are_what_their_source_says(routine: Routine) -> None:
    assert assemble(routine.source.format(**places()), routine.offset) == routine.code
    assert build_vdso()[routine.offset : routine.offset + len(routine.code)] == routine.code


def test_its_code() -> None:
    code = build_vdso()
    assert disassemble(code[RT_SIGRETURN : RT_SIGRETURN + 7]) == "mov eax, 0xad\nint 0x80"
