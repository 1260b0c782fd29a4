"""The assembler: forms, sizes, labels, data, and what is said where the text is wrong."""

from __future__ import annotations

import iced_x86
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiopyvm.errors import AssemblyError
from aiopyvm.isa.assemble import assemble


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("add eax, ebx", "01d8"),
        ("ADD EAX, 1", "83c001"),
        ("add eax, -1", "83c0ff"),
        ("add eax, 0xffffffff", "83c0ff"),
        ("add eax, 0x80", "0580000000"),
        ("add ecx, 0x80", "81c180000000"),
        ("add ax, 0x1234", "66053412"),
        ("add al, -1", "04ff"),
        ("add al, 255", "04ff"),
        ("add byte ptr [eax], 1", "800001"),
        ("add byte [eax], 1", "800001"),
        ("add dword ptr [eax], 0x1_000", "810000100000"),
        ("add [eax], cl", "0008"),
        ("add ebx, [ebp]", "035d00"),
        ("add ebx, [esp]", "031c24"),
        ("add ebx, [eax + ecx*4 - 8]", "035c88f8"),
        ("add ebx, [ecx*4]", "031c8d00000000"),
        ("add ebx, [eax+esp]", "031c04"),
        ("add ebx, [0x1234]", "031d34120000"),
        ("add ebx, fs:[0x14]", "64031d14000000"),
        ("add ebx, [fs:0x14]", "64031d14000000"),
        ("add ebx, dword ptr ss:[eax]", "360318"),
        ("add ebx, [bx+si+2]", "67035802"),
        ("add ebx, [bp]", "67035e00"),
        ("addr16 add ebx, [0x1234]", "67031e3412"),
        ("lock add [eax], ebx", "f00118"),
        ("inc eax", "40"),
        ("inc byte ptr [eax]", "fe00"),
        ("imul eax, ebx, 3", "6bc303"),
        ("imul eax, ebx, 300", "69c32c010000"),
        ("test al, 'a'", "a861"),
        ("add eax, 2 + 3 * 4", "83c00e"),
        ("add eax, (1 << 4) | 3", "83c013"),
        ("add eax, ~0", "83c0ff"),
        ("add eax, -(2 - 4)", "83c002"),
        ("add eax, 0b101", "83c005"),
        ("mov eax, 1", "b801000000"),
        ("mov eax, [0x1234]", "a134120000"),
        ("mov ecx, [0x1234]", "8b0d34120000"),
        ("mov ds, eax", "8ed8"),
        ("mov word ptr [eax], ds", "8c18"),
        ("test eax, [ebx]", "8503"),
        ("push 5", "6a05"),
        ("push 0xff", "68ff000000"),
        ("push -1", "6aff"),
        ("data16 push 5", "666a05"),
        ("push [eax]", "ff30"),
        ("push word ptr [eax]", "66ff30"),
        ("push fs", "0fa0"),
        ("call [eax]", "ff10"),
        ("call far fword ptr [eax]", "ff18"),
        ("jmp 0x23:0x08048000", "ea008004082300"),
        ("shl eax, 1", "d1e0"),
        ("shl eax, 4", "c1e004"),
        ("sal al, cl", "d2e0"),
        ("jz $", "74fe"),
        ("jz $+0x100", "0f84fa000000"),
        ("jmp short $", "ebfe"),
        ("addr16 loop $", "67e2fd"),
        ("jcxz $", "67e3fd"),
        ("jecxz $", "e3fe"),
        ("rep movsb", "f3a4"),
        ("rep fs movsd", "64f3a5"),
        ("repne scasw", "66f2af"),
        ("nop", "90"),
        ("pause", "f390"),
        ("xchg eax, ecx", "91"),
        ("xchg eax, eax", "87c0"),
        ("int 0x80", "cd80"),
        ("int3", "cc"),
        ("enter 16, 0", "c8100000"),
        ("aam 10", "d40a"),
        ("in al, dx", "ec"),
        ("out 0x80, al", "e680"),
        ("lea eax, [eax+eax*4]", "8d0480"),
        ("movzx eax, byte ptr [esi]", "0fb606"),
        ("fxch", "d9c9"),
        ("faddp", "dec1"),
        ("fnstsw ax", "dfe0"),
        ("fadd st(0), st(2)", "d8c2"),
        ("fadd st, st2", "d8c2"),
        ("fadd qword ptr [eax]", "dc00"),
        ("db 1, 'ab', \"c;#\\n\\x41\"", "01616263 3b23 0a41".replace(" ", "")),
        ("dw 1, -1; dd 0x12345678; dq 1", "0100ffff785634120100000000000000"),
        ("# nothing", ""),
        ("", ""),
        ("neg eax # comment\n\n not eax;;", "f7d8f7d0"),
    ],
)
def test_encodings(text: str, code: str) -> None:
    assert assemble(text).hex() == code


def test_labels_before_and_behind() -> None:
    code = assemble("start: dd start, end, $; add eax, end - start; end: db 1", 0x1000)
    assert code == b"\x00\x10\0\0\x0f\x10\0\0\x00\x10\0\0\x83\xc0\x0f\x01"


def test_an_immediate_grows_when_its_label_moves() -> None:
    fits, too_far = (f"add ecx, end - start; start: db {', '.join('0' * n)}; end:" for n in (127, 128))
    assert assemble(fits)[:3] == b"\x83\xc1\x7f"
    assert assemble(too_far)[:6] == b"\x81\xc1\x80\x00\x00\x00"


def test_labels_that_push_one_another() -> None:
    """Every growth makes other distances too large for a byte; in the end each immediate is its labels' distance."""
    count, reach = 40, 45
    lines = [f"l{n}: add ecx, l{n + reach} - l{n}" for n in range(count)]
    lines += [f"l{n}: neg eax" for n in range(count, count + reach)]
    found = list(iced_x86.Decoder(32, assemble("; ".join(lines)), ip=0x1000))
    assert len(found) == count + reach
    for n in range(count):
        assert found[n].immediate(1) == found[n + reach].ip - found[n].ip
    assert {instruction.len for instruction in found[:count]} == {3, 6}


def test_the_readme_program() -> None:
    assert assemble("mov ecx, 3; again: add eax, eax; loop again").hex() == "b90300000001c0e2fc"


def test_branches_take_the_short_form_where_it_reaches() -> None:
    for distance, length in ((127, 2), (128, 5)):
        code = assemble(f"jmp over; db {', '.join('0' * distance)}; over: ret", 0x1000)
        assert len(code) == length + distance + 1
        assert iced_x86.Decoder(32, code, ip=0x1000).decode().near_branch_target == 0x1000 + length + distance
    with pytest.raises(AssemblyError, match="out of reach"):
        assemble(f"jecxz over; db {', '.join('0' * 128)}; over: ret")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("foo eax", "line 1: no such instruction: 'foo': 'foo eax'"),
        ("neg eax\n add [eax], 1", "line 2: the memory operand's size is not clear: byte ptr, word ptr, dword ptr?"),
        ("add al, 256", "value 0x100 does not fit 8 bits"),
        ("add eax, 0x100000000", "does not fit"),
        ("add eax, bl", "no form of the instruction takes these operands"),
        ("add eax", "no form"),
        ("add eax,", "an operand is missing"),
        ("add eax ebx", "expected ']'|unexpected|register in|register where|expected"),
        ("add eax, [ebx", "expected ']'"),
        ("add eax, [eax+ebx+ecx]", "these registers make no address"),
        ("add eax, [esp*2]", "these registers make no address"),
        ("add eax, [bx+cx]", "these registers make no address"),
        ("add eax, [eax+bx]", "these registers make no address"),
        ("add eax, [eax*3]", "a register times 3"),
        ("add eax, nowhere", "no such label: 'nowhere'"),
        ("a: neg eax; a:", "label 'a' is there twice"),
        ("eax: neg eax", "'eax' cannot be a label"),
        ("add eax, 1/0", "division by zero"),
        ("add eax, 1 << 4000000", "shift by 4000000"),
        ("db 256", "0x100 does not fit 8 bits"),
        ("db '\\q'", "no such escape"),
        ("dd 'too long for it'", "is no number"),
        ("add eax, " + "(" * 10_000, "too deep"),
        ("add eax, 12ab", "cannot read"),
        ("lock", "an instruction is missing"),
        ("mov eax, [ebx], 3", "no form"),
        ("movzx eax, [ebx]", "byte ptr, word ptr?"),
        ("mov cs:5, eax", "expected"),
        ("push cs:[fs:eax]; call 0x100000000", "does not fit"),
        ("data16 push eax", "no form"),
        ("addr16 mov eax, [ebx]", "no form"),
        ("fs mov eax, gs:[ebx]", "two segments"),
        ("add eax, `", "line 1: cannot read '`'"),
        ("add fs:[eax], cl; add fs:ebx, 1", "expected '\\['"),
    ],
)
def test_errors(text: str, message: str) -> None:
    with pytest.raises(AssemblyError, match=message.replace("?", "\\?").replace("(", "\\(")):
        assemble(text)


@given(st.text(alphabet=st.sampled_from(list("adegimnosuvx ,;:+-*/()[]'\"\\#0129$\n.é")), max_size=60))
def test_any_text_is_code_or_an_assembly_error(text: str) -> None:
    try:
        assemble("add eax, " + text)
    except AssemblyError:
        return


@given(st.integers(-(1 << 31), (1 << 32) - 1), st.integers(-(1 << 31), (1 << 31) - 1))
def test_iced_reads_the_numbers_back(value: int, displacement: int) -> None:
    code = assemble(f"add dword ptr [esi+edi*8+{displacement}], {value}")
    instruction = iced_x86.Decoder(32, code).decode()
    assert instruction.len == len(code)
    assert instruction.memory_displacement & 0xFFFFFFFF == displacement & 0xFFFFFFFF
    assert instruction.immediate(1) & 0xFFFFFFFF == value & 0xFFFFFFFF
