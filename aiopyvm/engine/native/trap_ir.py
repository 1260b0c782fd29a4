"""The handler of SIGSEGV, as LLVM text: it is generated code, as no Python can run where a fault strikes.

It takes a fault that the hardware raised inside a protected reservation (`Slot`), and nothing else:

- at an access of compiled code, found by its place in the object's trap table: execution goes on at the way out;
- anywhere else (the interpreter copies, a debugger looks): the page is made readable and writable, and noted, so that
  Python can protect it again before generated code runs. When that was done too often, all pages are.

Everything else goes to what was installed before. Entry `n` (`trap_n`) knows what it was installed over, so a handler
that was installed over one of ours may hand on to that one, while another of ours stands above it. The default action
is put in place and left to strike: a fault comes again, and a signal that was sent is sent again.

Offsets are those of siginfo_t and ucontext_t on Linux x86-64 (sigaction(2), asm/siginfo.h, asm/ucontext.h).
"""

from __future__ import annotations

import ctypes
from typing import Final

from aiopyvm.engine.native.traplayout import (
    ALL_OPENED,
    ENTRIES,
    MOST_OPENED,
    TRAP_SIZE,
    Control,
    Previous,
    Slot,
    TableEntry,
)
from aiopyvm.mem.layout import GUARD, PAGE, PAGE_SHIFT, PAGES

_SI_CODE, _SI_ADDR = 8, 16
_RIP: Final = 40 + 8 * 16  # uc_mcontext.gregs[REG_RIP]
_ERR: Final = 40 + 8 * 19  # the page fault's error code
_FETCH: Final = 1 << 4  # bit I/D of it
_SIGSEGV: Final = 11
_SYS_MPROTECT, _SYS_RT_SIGACTION, _SYS_GETPID, _SYS_GETTID, _SYS_TGKILL = 10, 13, 39, 186, 234
_SA_SIGINFO: Final = 4
_READ_WRITE: Final = 3  # PROT_READ | PROT_WRITE
_SPACE: Final = 1 << 32


def _at(structure: type[ctypes.Structure], name: str) -> int:
    return int(getattr(structure, name).offset)


def _syscall(result: str, number: int, *arguments: str) -> str:
    registers = ("rdi", "rsi", "rdx", "r10")[: len(arguments)]
    inputs = "".join(f",{{{register}}}" for register in registers)
    values = "".join(f", i64 {argument}" for argument in arguments)
    return (
        f'{result} = call i64 asm sideeffect "syscall", "={{rax}},{{rax}}{inputs},~{{rcx}},~{{r11}},~{{memory}}"'
        f"(i64 {number}{values})"
    )


def handler_text() -> list[str]:
    """The definitions of the entries and of what they share."""
    entries = [
        f"define void @{name}(i32 %signal, ptr %info, ptr %context) #0 {{\n"
        f"  tail call void @trap(i64 {level}, i32 %signal, ptr %info, ptr %context)\n  ret void\n}}\n"
        for level, name in enumerate(ENTRIES)
    ]
    return [*entries, _TRAP]


_TRAP: Final = f"""
define internal void @trap(i64 %level, i32 %signal, ptr %info, ptr %context) #0 {{
entry:
  %no_action = alloca [4 x i64], align 8
  %p.code = getelementptr i8, ptr %info, i64 {_SI_CODE}
  %code = load i32, ptr %p.code
  %sent = icmp slt i32 %code, 1
  %p.rip = getelementptr i8, ptr %context, i64 {_RIP}
  br i1 %sent, label %chain, label %by_hardware

by_hardware:
  %p.address = getelementptr i8, ptr %info, i64 {_SI_ADDR}
  %address = load i64, ptr %p.address
  %p.slots = getelementptr i8, ptr @code_base, i64 {_at(Control, "slots")}
  %slots = load ptr, ptr %p.slots
  %p.count = getelementptr i8, ptr @code_base, i64 {_at(Control, "slot_count")}
  %slot_count = load volatile i64, ptr %p.count
  br label %look

look:
  %n = phi i64 [ 0, %by_hardware ], [ %n.next, %other ]
  %over = icmp uge i64 %n, %slot_count
  br i1 %over, label %chain, label %compare
compare:
  %slot = getelementptr [{ctypes.sizeof(Slot)} x i8], ptr %slots, i64 %n
  %base = load volatile i64, ptr %slot
  %offset = sub i64 %address, %base
  %from_guard = add i64 %offset, {GUARD}
  %within = icmp ult i64 %from_guard, {_SPACE + 2 * GUARD}
  %used = icmp ne i64 %base, 0
  %here = and i1 %within, %used
  br i1 %here, label %whose, label %other
other:
  %n.next = add i64 %n, 1
  br label %look

whose:
  %rip = load i64, ptr %p.rip
  %distance = sub i64 %rip, ptrtoint (ptr @code_base to i64)
  %p.size = getelementptr i8, ptr @code_base, i64 {_at(Control, "code_bytes")}
  %size = load i64, ptr %p.size
  %ours = icmp ult i64 %distance, %size
  br i1 %ours, label %find, label %open
find:
  %p.directory = getelementptr i8, ptr @code_base, i64 {_at(Control, "directory")}
  %directory = load ptr, ptr %p.directory
  %page = lshr i64 %distance, {PAGE_SHIFT}
  %p.table = getelementptr [{ctypes.sizeof(TableEntry)} x i8], ptr %directory, i64 %page
  %table = load volatile i64, ptr %p.table
  %entries = lshr i64 %table, 32
  %at = and i64 %table, 4294967295
  %traps = getelementptr i8, ptr @code_base, i64 %at
  br label %search

search:
  %low = phi i64 [ 0, %find ], [ %low.next, %halve ]
  %high = phi i64 [ %entries, %find ], [ %high.next, %halve ]
  %nothing = icmp uge i64 %low, %high
  br i1 %nothing, label %open, label %halve
halve:
  %sum = add i64 %low, %high
  %middle = lshr i64 %sum, 1
  %trap = getelementptr [{TRAP_SIZE} x i8], ptr %traps, i64 %middle
  %relative = load i32, ptr %trap, align 4
  %wide = sext i32 %relative to i64
  %trap.i = ptrtoint ptr %trap to i64
  %place = add i64 %trap.i, %wide
  %above = icmp ugt i64 %place, %rip
  %behind = add i64 %middle, 1
  %high.next = select i1 %above, i64 %middle, i64 %high
  %low.next = select i1 %above, i64 %low, i64 %behind
  %found = icmp eq i64 %place, %rip
  br i1 %found, label %way_out, label %search
way_out:
  %p.target = getelementptr i8, ptr %trap, i64 4
  %to = load i32, ptr %p.target, align 4
  %to.wide = sext i32 %to to i64
  %p.target.i = ptrtoint ptr %p.target to i64
  %target = add i64 %p.target.i, %to.wide
  store i64 %target, ptr %p.rip
  ret void

open:
  %number = lshr i64 %offset, {PAGE_SHIFT}
  %guest = icmp ult i64 %number, {PAGES}
  %p.error = getelementptr i8, ptr %context, i64 {_ERR}
  %error = load i64, ptr %p.error
  %fetch = and i64 %error, {_FETCH}
  %data = icmp eq i64 %fetch, 0
  %sensible = and i1 %guest, %data
  br i1 %sensible, label %note, label %chain
note:
  %p.opened = getelementptr i8, ptr %slot, i64 {_at(Slot, "opened")}
  %opened = atomicrmw add ptr %p.opened, i32 1 seq_cst
  %few = icmp ult i32 %opened, {MOST_OPENED}
  br i1 %few, label %one, label %many
one:
  %opened.wide = zext i32 %opened to i64
  %p.pages = getelementptr i8, ptr %slot, i64 {_at(Slot, "pages")}
  %p.page = getelementptr i32, ptr %p.pages, i64 %opened.wide
  %number.short = trunc i64 %number to i32
  store volatile i32 %number.short, ptr %p.page
  %page.i = and i64 %address, {-PAGE}
  {_syscall("%refused", _SYS_MPROTECT, "%page.i", str(PAGE), str(_READ_WRITE))}
  %done = icmp eq i64 %refused, 0
  br i1 %done, label %return, label %all
many:
  %again = icmp uge i32 %opened, {ALL_OPENED}
  br i1 %again, label %chain, label %all
all:
  store atomic volatile i32 {ALL_OPENED}, ptr %p.opened seq_cst, align 4
  {_syscall("%denied", _SYS_MPROTECT, "%base", str(_SPACE), str(_READ_WRITE))}
  %fine = icmp eq i64 %denied, 0
  br i1 %fine, label %return, label %chain
return:
  ret void

chain:
  %p.previous = getelementptr i8, ptr @code_base, i64 {_at(Control, "previous")}
  %previous = getelementptr [{ctypes.sizeof(Previous)} x i8], ptr %p.previous, i64 %level
  %handler = load i64, ptr %previous
  %p.flags = getelementptr i8, ptr %previous, i64 {_at(Previous, "flags")}
  %flags = load i64, ptr %p.flags
  %none = icmp ult i64 %handler, 2
  br i1 %none, label %default, label %call
call:
  %function = inttoptr i64 %handler to ptr
  %three = and i64 %flags, {_SA_SIGINFO}
  %short = icmp eq i64 %three, 0
  br i1 %short, label %call_one, label %call_three
call_one:
  call void %function(i32 %signal)
  ret void
call_three:
  call void %function(i32 %signal, ptr %info, ptr %context)
  ret void
default:
  %ignored = icmp eq i64 %handler, 1
  %nobody = and i1 %ignored, %sent
  br i1 %nobody, label %return, label %strike
strike:
  store [4 x i64] zeroinitializer, ptr %no_action
  %p.no_action = ptrtoint ptr %no_action to i64
  {_syscall("%set", _SYS_RT_SIGACTION, str(_SIGSEGV), "%p.no_action", "0", "8")}
  br i1 %sent, label %send, label %return
send:
  {_syscall("%pid", _SYS_GETPID)}
  {_syscall("%tid", _SYS_GETTID)}
  {_syscall("%told", _SYS_TGKILL, "%pid", "%tid", str(_SIGSEGV))}
  ret void
}}
"""

__all__ = ["handler_text"]
