"""The disassembler's text."""

from __future__ import annotations

import pytest

from aiopyvm.isa.decode import decode
from aiopyvm.isa.disasm import disassemble, format_insn, iter_disassemble


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("01448b08", "add dword ptr [ebx+ecx*4+0x8], eax"),
        ("0345 f8", "add eax, dword ptr [ebp-0x8]"),
        ("64 031d 14000000", "add ebx, dword ptr fs:[0x14]"),
        ("03048d 00000000", "add eax, dword ptr [ecx*4]"),
        ("67 0340 fe", "add eax, dword ptr [bx+si-0x2]"),
        ("67 0306 3412", "addr16 add eax, dword ptr [0x1234]"),
        ("66 01d8", "add ax, bx"),
        ("66 00d8", "data16 add al, bl"),
        ("83c0ff", "add eax, -0x1"),
        ("05ffffffff", "add eax, 0xffffffff"),
        ("f0 0118", "lock add dword ptr [eax], ebx"),
        ("f3 01d8", "rep add eax, ebx"),
        ("f2 01d8", "repne add eax, ebx"),
        ("2e 01d8", "cs add eax, ebx"),
        ("d8c3", "fadd st(0), st(3)"),
        ("dd00", "fld qword ptr [eax]"),
        ("db28", "fld tbyte ptr [eax]"),
        ("d920", "fldenv [eax]"),
    ],
)
def test_text(code: str, text: str) -> None:
    data = bytes.fromhex(code)
    assert format_insn(decode(data), 0x1000) == text
    assert disassemble(data, 0x1000) == text


def test_all_of_a_buffer_is_covered() -> None:
    code = bytes.fromhex("01d8 0f04 83c001 0305 0000")
    lines = list(iter_disassemble(code, 0x1000))
    assert lines[0].text == "add eax, ebx"
    assert (lines[1].text, lines[1].insn) == ("db 0x0f", None)
    assert b"".join(line.code for line in lines) == code
    assert [line.address for line in lines] == [0x1000 + sum(len(x.code) for x in lines[:n]) for n in range(len(lines))]


def test_a_16_bit_code_segment() -> None:
    assert [line.text for line in iter_disassemble(b"\x01\x07\x66\x01\xd8", code16=True)] == [
        "add word ptr [bx], ax",
        "add eax, ebx",
    ]
