"""The vdso as a library: what pyelftools and the C library read of it, and that programs get it."""

from __future__ import annotations

import io

from elftools.dwarf.callframe import FDE
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerDefSection
from elftools.elf.sections import SymbolTableSection

from aiopyvm import disassemble
from aiopyvm.loader.vdso import RT_SIGRETURN, SIGRETURN, VSYSCALL, build_vdso
from aiopyvm.mem.layout import PAGE

PLACES = {"__kernel_vsyscall": VSYSCALL, "__kernel_sigreturn": SIGRETURN, "__kernel_rt_sigreturn": RT_SIGRETURN}


def test_its_functions_have_names_and_a_version() -> None:
    elf = ELFFile(io.BytesIO(build_vdso()))
    table = elf.get_section_by_name(".dynsym")
    assert isinstance(table, SymbolTableSection)
    names = {s.name: s["st_value"] for s in table.iter_symbols() if s["st_info"]["type"] == "STT_FUNC"}
    assert names == PLACES
    versions = elf.get_section_by_name(".gnu.version_d")
    assert isinstance(versions, GNUVerDefSection)
    assert [next(aux).name for _, aux in versions.iter_versions()] == ["linux-gate.so.1", "LINUX_2.5"]
    assert [version["vd_hash"] for version, _ in versions.iter_versions()][
        1
    ] == 0x3AE75F5  # as ld(1) has it for LINUX_2.5


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
    frames = ELFFile(io.BytesIO(build_vdso())).get_dwarf_info().EH_CFI_entries()
    (fde,) = [entry for entry in frames if isinstance(entry, FDE)]
    assert (fde["initial_location"], fde["address_range"]) == (VSYSCALL, 3)
    (row,) = fde.get_decoded().table[:1]
    assert (row["cfa"].reg, row["cfa"].offset) == (4, 4)


def test_its_code() -> None:
    code = build_vdso()
    assert disassemble(code[RT_SIGRETURN : RT_SIGRETURN + 7]) == "mov eax, 0xad\nint 0x80"
