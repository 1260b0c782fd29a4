"""REP MOVS and REP STOS: many iterations at once, within a page of the destination and one of the source.

The host's own string instruction does them, element by element as the guest's would, overlapping or not, so the state
is that of as many single iterations; a short move whose ends are apart is done by vectors, in a third of the time. What
it does not do is left to the iteration that stands behind it: DF set, a page
that is not fast, an element that straddles pages, only a few iterations left to do or in the budget.
"""

from __future__ import annotations

from typing import Final

from aiopyvm.engine.native.calls import UNCHANGED, dispatch
from aiopyvm.engine.native.hostcpu import has
from aiopyvm.engine.native.layout import CPU_OFFSETS, PAGE_TABLE, RECORD_SIZE
from aiopyvm.engine.native.llvmtext import Text
from aiopyvm.engine.native.lower_float import HAS_X87
from aiopyvm.isa.insn import Insn
from aiopyvm.mem.layout import PAGE, PAGE_SHIFT, READ, WRITE

_SIZES: Final = {"movsb": 0, "movsw": 1, "movsd": 2, "stosb": 0, "stosw": 1, "stosd": 2}  # log2 of bytes
_SUFFIXES: Final = "bwl"
WORTH: Final = 8  # iterations
MOST: Final = 1 << 16  # a budget above it does not limit
_FS: Final = 4  # segment numbers from here on have a base
_VECTOR: Final = 16  # bytes
_SHORT: Final = 1024  # bytes, up to which vectors move faster
_REGISTERS: Final = "{di},{si},{cx},~{rax},~{rdx},~{xmm0}"
_CLOBBERS: Final = "~{memory},~{dirflag},~{fpsr},~{flags}"


def least(text: Text, bits: int, x: str, y: str) -> str:
    """The lesser of two numbers without sign."""
    below = text.fresh(f"icmp ult i{bits} {x}, {y}")
    return text.fresh(f"select i1 {below}, i{bits} {x}, i{bits} {y}")


def room(text: Text, insn: Insn, address: str) -> str:
    """How many whole elements there are from an address (i32) up to the end of the page."""
    used = text.fresh(f"and i32 {address}, {PAGE - 1}")
    return text.fresh(f"lshr i32 {text.fresh(f'sub i32 {PAGE}, {used}')}, {size_of(insn)}")


def size_of(insn: Insn) -> int:
    """The size of an element, its log2."""
    return _SIZES[insn.row.name]


def moves(insn: Insn) -> bool:
    """Tell whether an instruction is REP MOVS, not REP STOS."""
    return insn.row.name.startswith("movs")


def at_once(text: Text, insn: Insn, destination: str, source: str, count: str, value: str) -> None:
    """`count` (i32) iterations by the host, at guest addresses (i32) that may be accessed; `value`: EAX, for STOS."""

    def pointer(address: str) -> str:
        return text.fresh(f"getelementptr i8, ptr %mem, i64 {text.fresh(f'zext i32 {address} to i64')}")

    suffix = _SUFFIXES[size_of(insn)]
    to, times = pointer(destination), text.fresh(f"zext i32 {count} to i64")
    if moves(insn):
        moved, end = text.new_label(), text.new_label()
        _move_vectors(text, to, pointer(source), text.fresh(f"shl i64 {times}, {size_of(insn)}"), moved, end)
        text.label(moved)
        constraints = f"={{di}},={{si}},={{cx}},0,1,2,{_CLOBBERS}"
        operands = f"ptr {to}, ptr {pointer(source)}, i64 {times}"
        text.fresh(f'call {{ ptr, ptr, i64 }} asm sideeffect "rep movs{suffix}", "{constraints}"({operands})')
        text.line(f"br label %{end}")
        text.label(end)
    else:
        constraints = f"={{di}},={{cx}},0,1,{{ax}},{_CLOBBERS}"
        operands = f"ptr {to}, i64 {times}, i32 {value}"
        text.fresh(f'call {{ ptr, i64 }} asm sideeffect "rep stos{suffix}", "{constraints}"({operands})')


def _move_vectors(text: Text, to: str, source: str, size: str, otherwise: str, end: str) -> None:
    """Move `size` (i64) bytes and go to `end`; to `otherwise` where they are too many or too few, or where a vector
    would be stored over what is still to be loaded.
    """
    into, out_of = (text.fresh(f"ptrtoint ptr {name} to i64") for name in (to, source))
    ahead, behind = text.fresh(f"sub i64 {into}, {out_of}"), text.fresh(f"sub i64 {out_of}, {into}")
    apart = text.fresh(f"icmp uge i64 {ahead}, {size}"), text.fresh(f"icmp uge i64 {behind}, {_VECTOR}")
    fits = text.fresh(f"icmp ule i64 {text.fresh(f'sub i64 {size}, {_VECTOR}')}, {_SHORT - _VECTOR}")
    vectors = text.new_label()
    text.branch(text.fresh(f"and i1 {text.fresh(f'and i1 {apart[0]}, {apart[1]}')}, {fits}"), vectors, otherwise)
    text.label(vectors)
    text.line(f'call void asm sideeffect "{_code()}", "{_REGISTERS},{_CLOBBERS}"(ptr {to}, ptr {source}, i64 {size})')
    text.line(f"br label %{end}")


def _code() -> str:
    """RCX bytes, at least a vector of them, from RSI to RDI: from the front, then a vector that ends with the last."""
    move = "vmovups" if has("avx") else "movups"
    lines = (
        "xorl %eax, %eax", "leaq -16(%rcx), %rdx",
        ".Lmove${:uid}:", f"{move} (%rsi,%rax), %xmm0", f"{move} %xmm0, (%rdi,%rax)", "addq $$16, %rax",
        "cmpq %rdx, %rax", "jb .Lmove${:uid}", f"{move} (%rsi,%rdx), %xmm0", f"{move} %xmm0, (%rdi,%rdx)",
    )  # fmt: skip
    return "\\0A\\09".join(lines)


def is_bulk(insn: Insn) -> bool:
    """Tell whether `bulk` can be written for an instruction."""
    plain = insn.address_size == 32 and insn.segment < _FS and not insn.lock
    return HAS_X87 and insn.repeats and insn.row.name in _SIZES and plain


def bulk(text: Text, insn: Insn) -> None:
    """Write the iterations that are done at once, and go on at the record; else control comes out behind."""
    _Bulk(text, insn).write()


class _Bulk:
    def __init__(self, text: Text, insn: Insn) -> None:
        self.text = text
        self.insn = insn
        self.moves = moves(insn)
        self.single = text.new_label()

    def write(self) -> None:
        text = self.text
        scope = text.scope()
        left, destination = self._get("ecx"), self._get("edi")
        source = self._get("esi") if self.moves else ""
        budget = least(text, 64, "%budget", str(MOST))
        count = least(text, 32, left, text.fresh(f"trunc i64 {budget} to i32"))
        for address in (destination, source) if self.moves else (destination,):
            count = least(text, 32, count, room(text, self.insn, address))
        self._go_on_if(text.fresh(f"icmp uge i32 {count}, {WORTH}"))
        direction = text.fresh(f"load i8, ptr {self._field('df')}")
        self._go_on_if(text.fresh(f"icmp eq i8 {direction}, 0"))
        self._go_on_if(self._is_fast(destination, WRITE))
        if self.moves:
            self._go_on_if(self._is_fast(source, READ))
        at_once(text, self.insn, destination, source, count, "" if self.moves else self._get("eax"))
        self._leave(destination, source, left, count)
        text.label(self.single)
        text.leave_scope(scope)

    def _field(self, name: str) -> str:
        return self.text.value(f"getelementptr i8, ptr %cpu, i64 {CPU_OFFSETS[name]}")

    def _get(self, name: str) -> str:
        return self.text.fresh(f"load i32, ptr {self._field(name)}")

    def _go_on_if(self, condition: str) -> None:
        label = self.text.new_label()
        self.text.branch(condition, label, self.single)
        self.text.label(label)

    def _is_fast(self, address: str, bit: int) -> str:
        text = self.text
        table = text.value(f"getelementptr i8, ptr %mem, i64 {PAGE_TABLE}")
        page = text.fresh(f"zext i32 {text.fresh(f'lshr i32 {address}, {PAGE_SHIFT}')} to i64")
        found = text.fresh(f"load i8, ptr {text.fresh(f'getelementptr i8, ptr {table}, i64 {page}')}")
        return text.fresh(f"icmp ne i8 {text.fresh(f'and i8 {found}, {bit}')}, 0")

    def _leave(self, destination: str, source: str, left: str, count: str) -> None:
        text = self.text
        size = text.fresh(f"shl i32 {count}, {size_of(self.insn)}")
        for name, address in (("edi", destination), ("esi", source)) if self.moves else (("edi", destination),):
            text.line(f"store i32 {text.fresh(f'add i32 {address}, {size}')}, ptr {self._field(name)}")
        rest = text.fresh(f"sub i32 {left}, {count}")
        text.line(f"store i32 {rest}, ptr {self._field('ecx')}")
        budget = text.fresh(f"sub i64 %budget, {text.fresh(f'zext i32 {count} to i64')}")
        step = text.fresh(f"select i1 {text.fresh(f'icmp eq i32 {rest}, 0')}, i64 {RECORD_SIZE}, i64 0")
        dispatch(text, text.fresh(f"getelementptr i8, ptr %rec, i64 {step}"), budget, UNCHANGED)
