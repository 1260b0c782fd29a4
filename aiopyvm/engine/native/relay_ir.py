"""`relay(desk)`: cores that talk to each other through empty pipes, one after the other, without Python (`Desk`).

It runs the current party's code. A write(2) to a pipe in whose read(2) another party sleeps is carried out here: the
bytes go from memory to memory, and who slept stands in line. A read(2) like the one in which the party slept before
puts it to sleep again, and the next in line goes on. Every other system call is for Python, and has not been begun; so
is one whose bytes are on pages that are not at hand. Pages are looked up in the page table, in both forms of memory.

`resume` is the handler of the record that stands for the instruction at `CpuState.eip`.
"""

from __future__ import annotations

import ctypes
from typing import Final

from aiopyvm.engine.native.calls import UNCHANGED, define, jump_through_cache
from aiopyvm.engine.native.layout import PAGE_TABLE, Context, Left
from aiopyvm.engine.native.llvmtext import Text
from aiopyvm.engine.native.lower_float import HAS_X87
from aiopyvm.engine.native.relaylayout import MOST_PARTIES, MOST_ROUTES, Desk, Outcome, Party, Route
from aiopyvm.isa.state import CpuState
from aiopyvm.mem.layout import PAGE_SHIFT, READ, WRITE

_SPACE: Final = 1 << 32
_LONGEST: Final = 1 << 16  # bytes of a write
_BITS: Final = {4: "i32", 8: "i64"}  # by a field's size


def relay_text() -> list[str]:
    """The definitions of `relay`, `resume` and what they use."""
    return [_Relay().write(), _resume(), _MAY, _COPY if HAS_X87 else _COPY_BYTES]


def _resume() -> str:
    text = Text()
    place = text.value(f"getelementptr i8, ptr %cpu, i64 {CpuState.eip.offset}")
    jump_through_cache(text, text.fresh(f"load i32, ptr {place}"), "%budget", UNCHANGED, place)
    return define("resume", text)


class _Struct:
    """A structure at an address (ptr): loads and stores its fields."""

    def __init__(self, text: Text, kind: type[ctypes.Structure], address: str) -> None:
        self._text = text
        self._kind = kind
        self.address = address

    def at(self, name: str) -> str:
        """The address of a field."""
        offset = getattr(self._kind, name).offset
        return self._text.fresh(f"getelementptr i8, ptr {self.address}, i64 {offset}")

    def get(self, name: str, kind: str = "") -> str:
        """The value of a field, as an LLVM type; an integer of its size where that is not said."""
        kind = kind or _BITS[getattr(self._kind, name).size]
        return self._text.fresh(f"load {kind}, ptr {self.at(name)}")

    def put(self, name: str, value: str) -> None:
        """Store an integer of the field's size."""
        self._text.line(f"store {_BITS[getattr(self._kind, name).size]} {value}, ptr {self.at(name)}")

    def add(self, name: str, value: str) -> str:
        """Add to a field (LLVM's integers wrap); its new value."""
        kind = _BITS[getattr(self._kind, name).size]
        total = self._text.fresh(f"add {kind} {self.get(name)}, {value}")
        self._text.line(f"store {kind} {total}, ptr {self.at(name)}")
        return total


class _Relay:
    def __init__(self) -> None:
        self.text = Text()
        self.desk = _Struct(self.text, Desk, "%desk")

    def write(self) -> str:
        text = self.text
        text.line("br label %turn")
        text.label("turn")
        self.party = self._party(self.desk.get("current"))
        self.ctx = _Struct(text, Context, self.party.get("context", "ptr"))
        self.cpu = _Struct(text, CpuState, self.party.get("cpu", "ptr"))
        self.ctx.put("cpu", text.fresh(f"ptrtoint ptr {self.cpu.address} to i64"))
        text.line("br label %go")
        text.label("go")
        self._run()
        eax = self.cpu.get("eax")
        self._branch(self._same(eax, self.desk.get("read_number")), "read", "no_read")
        text.label("no_read")
        self._branch(self._same(eax, self.desk.get("write_number")), "write", "call")
        self._read()
        self._write()
        for name, outcome in (
            ("left", Outcome.LEFT), ("call", Outcome.CALL), ("pause", Outcome.PAUSE), ("idle", Outcome.IDLE),
        ):  # fmt: skip
            text.label(name)
            self.desk.put("outcome", str(int(outcome)))
            text.line("ret void")
        return f"define void @relay(ptr %desk) #0 {{\nentry:\n{text.body()}\n}}\n"

    def _run(self) -> None:
        """Run generated code; come here where it came back for a system call, with what is to follow it in `record`."""
        text, ctx, party = self.text, self.ctx, self.party
        before = party.get("left")
        ctx.put("rec", party.get("record"))
        ctx.put("budget", before)
        ctx.put("access", "0")
        text.line(f"call void @run(ptr {ctx.address})")
        left = ctx.get("budget")
        done = text.fresh(f"sub i64 {before}, {left}")
        party.put("left", left)
        party.add("done", done)
        self.cpu.add("instructions", done)
        self._burn(done)
        self._branch(self._same(ctx.get("reason"), str(int(Left.SYSCALL))), "called", "left")
        text.label("called")
        following = ctx.get("rec")
        resume = text.fresh(f"ptrtoint ptr {self.desk.at('resume')} to i64")
        unknown = text.fresh(f"icmp eq i64 {following}, 0")
        party.put("record", text.fresh(f"select i1 {unknown}, i64 {resume}, i64 {following}"))

    def _read(self) -> None:
        """The party sleeps, and the next in line goes on."""
        text, desk, party = self.text, self.desk, self.party
        text.label("read")
        for register, name in (("ebx", "fd"), ("ecx", "address"), ("edx", "room")):
            self._go_on_if(self._same(self.cpu.get(register), party.get(name)), "call")
        party.put("asleep", "1")
        party.add("reads", "1")
        self._charge(desk.get("cost"))
        waiting, first = desk.get("waiting"), desk.get("first")
        self._go_on_if(text.fresh(f"icmp ne i32 {waiting}, 0"), "idle")
        desk.put("waiting", text.fresh(f"sub i32 {waiting}, 1"))
        desk.put("first", self._round(text.fresh(f"add i32 {first}, 1")))
        desk.put("current", text.fresh(f"load i32, ptr {self._in_line(first)}"))
        self._branch(text.fresh(f"icmp sgt i64 {desk.get('fuel')}, 0"), "turn", "pause")

    def _write(self) -> None:
        """What is written goes to who sleeps; the party goes on."""
        text, party, cpu = self.text, self.party, self.cpu
        text.label("write")
        fd, count = cpu.get("ebx"), party.get("route_count")
        places = [
            text.fresh(f"getelementptr i8, ptr {party.at('routes')}, i64 {n * ctypes.sizeof(Route)}")
            for n in range(MOST_ROUTES)
        ]
        found = []
        for n, place in enumerate(places):
            self._go_on_if(text.fresh(f"icmp ugt i32 {count}, {n}"), "call")
            route = _Struct(text, Route, place)
            to, other = route.get("to"), text.new_label()
            found.append(f"[ {to}, %{text.block} ]")
            self._branch(self._same(fd, route.get("fd")), "found", other)
            text.label(other)
        text.line("br label %call")
        text.label("found")
        self._hand_over(text.fresh(f"phi i32 {', '.join(found)}"))

    def _hand_over(self, to: str) -> None:
        text, desk, party, cpu = self.text, self.desk, self.party, self.cpu
        reader = self._party(to)
        address, size = cpu.get("ecx"), cpu.get("edx")
        self._go_on_if(self._same(reader.get("asleep"), "1"), "call")
        self._go_on_if(text.fresh(f"icmp ule i32 {size}, {reader.get('room')}"), "call")
        self._go_on_if(text.fresh(f"icmp ule i32 {size}, {_LONGEST}"), "call")
        self._go_on_if(text.fresh(f"icmp ne i32 {size}, 0"), "call")
        reading = _Struct(text, Context, reader.get("context", "ptr"))
        n = text.fresh(f"zext i32 {size} to i64")
        here, there = self.ctx.get("mem", "ptr"), reading.get("mem", "ptr")
        source = text.fresh(f"zext i32 {address} to i64")
        target = text.fresh(f"zext i32 {reader.get('address')} to i64")
        for memory, at, bit in ((here, source, READ), (there, target, WRITE)):
            may = text.fresh(f"call i1 @relay_may(ptr {memory}, i64 {at}, i64 {n}, i8 {bit})")
            self._go_on_if(may, "call")
        to_place = text.fresh(f"getelementptr i8, ptr {there}, i64 {target}")
        from_place = text.fresh(f"getelementptr i8, ptr {here}, i64 {source}")
        text.line(f"call void @relay_copy(ptr {to_place}, ptr {from_place}, i64 {n})")
        _Struct(text, CpuState, reader.get("cpu", "ptr")).put("eax", size)
        reader.put("asleep", "0")
        reader.put("left", reader.get("slice"))
        waiting = desk.get("waiting")
        last = text.fresh(f"add i32 {desk.get('first')}, {waiting}")
        text.line(f"store i32 {to}, ptr {self._in_line(self._round(last))}")
        desk.put("waiting", text.fresh(f"add i32 {waiting}, 1"))
        cpu.put("eax", size)
        party.add("writes", "1")
        moved = text.fresh(f"lshr i64 {n}, {desk.get('moved_shift')}")
        left = self._charge(text.fresh(f"add i64 {desk.get('cost')}, {moved}"))
        self._branch(text.fresh(f"icmp sgt i64 {left}, 0"), "go", "pause")

    # -- pieces --------------------------------------------------------------------------------------------------------

    def _party(self, number: str) -> _Struct:
        text = self.text
        wide = text.fresh(f"zext i32 {number} to i64")
        kind = f"[{ctypes.sizeof(Party)} x i8]"
        return _Struct(text, Party, text.fresh(f"getelementptr {kind}, ptr {self.desk.at('parties')}, i64 {wide}"))

    def _in_line(self, place: str) -> str:
        wide = self.text.fresh(f"zext i32 {place} to i64")
        return self.text.fresh(f"getelementptr i32, ptr {self.desk.at('line')}, i64 {wide}")

    def _round(self, place: str) -> str:
        return self.text.fresh(f"urem i32 {place}, {MOST_PARTIES}")

    def _burn(self, cost: str) -> None:
        self.desk.add("fuel", self.text.fresh(f"sub i64 0, {cost}"))

    def _charge(self, cost: str) -> str:
        """The party pays for a call; what it may still use."""
        self._burn(cost)
        self.party.add("spent", cost)
        return self.party.add("left", self.text.fresh(f"sub i64 0, {cost}"))

    def _same(self, one: str, other: str) -> str:
        return self.text.fresh(f"icmp eq i32 {one}, {other}")

    def _branch(self, condition: str, yes: str, no: str) -> None:
        self.text.branch(condition, yes, no)

    def _go_on_if(self, condition: str, otherwise: str) -> None:
        label = self.text.new_label()
        self.text.branch(condition, label, otherwise)
        self.text.label(label)


_MAY: Final = f"""
define internal i1 @relay_may(ptr %mem, i64 %at, i64 %n, i8 %bit) #0 {{
entry:
  %end = add i64 %at, %n
  %whole = icmp ule i64 %end, {_SPACE}
  %table = getelementptr i8, ptr %mem, i64 {PAGE_TABLE}
  %first = lshr i64 %at, {PAGE_SHIFT}
  %last.byte = sub i64 %end, 1
  %last = lshr i64 %last.byte, {PAGE_SHIFT}
  br i1 %whole, label %look, label %no
look:
  %page = phi i64 [ %first, %entry ], [ %next, %fine ]
  %place = getelementptr i8, ptr %table, i64 %page
  %bits = load i8, ptr %place
  %here = and i8 %bits, %bit
  %may = icmp ne i8 %here, 0
  br i1 %may, label %fine, label %no
fine:
  %next = add i64 %page, 1
  %over = icmp ugt i64 %next, %last
  br i1 %over, label %yes, label %look
yes:
  ret i1 true
no:
  ret i1 false
}}
"""
_COPY: Final = """
define internal void @relay_copy(ptr %to, ptr %from, i64 %n) #0 {
entry:
  call { ptr, ptr, i64 } asm sideeffect "rep movsb", "={di},={si},={cx},0,1,2,~{memory},~{dirflag},~{fpsr},~{flags}"(ptr %to, ptr %from, i64 %n)
  ret void
}
"""  # noqa: E501
_COPY_BYTES: Final = """
define internal void @relay_copy(ptr %to, ptr %from, i64 %n) #0 {
entry:
  br label %copy
copy:
  %at = phi i64 [ 0, %entry ], [ %next, %copy ]
  %source = getelementptr i8, ptr %from, i64 %at
  %target = getelementptr i8, ptr %to, i64 %at
  %byte = load volatile i8, ptr %source
  store volatile i8 %byte, ptr %target
  %next = add i64 %at, 1
  %over = icmp uge i64 %next, %n
  br i1 %over, label %done, label %copy
done:
  ret void
}
"""


__all__ = ["relay_text"]
