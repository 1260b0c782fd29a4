"""The vdso's functions that tell the time without a system call, as vdso(7) names them.

How it works. Where the machine's page of its clocks (`kernel/clockpage.py`, the page below the vdso) has a mode other
than 0, RDTSC counts the nanoseconds of the machine's own CLOCK_MONOTONIC, and the page tells what to add for
CLOCK_REALTIME: `now` takes both apart into seconds and nanoseconds. Where the mode is 0, and for clocks that are not of
these two, a function makes the system call of its name.

The page has two places for what is to be added; the low bit of its sequence number says which is valid. Who changes it
writes the other place and then the number, so a reader that finds the number as it was has read one time's value.

`code` is what `source` is assembled to at `offset` (tests/loader/test_vdso.py): `{name}` stands for a routine's place,
or for how far a word of the page is below what `here` returns in `now`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from aiopyvm.mem.layout import PAGE

CLOCKS: Final = 0x840  # offset in the vdso of the first routine
MODE: Final = 0  # offsets in the page of clocks: u32, 0: make the calls
SEQUENCE: Final = 4  # u32
TO_ADD: Final = 8  # i64[2]: CLOCK_REALTIME - CLOCK_MONOTONIC, in ns


class Routine(NamedTuple):
    """One function; those whose names begin with `__vdso_` are symbols of the library."""

    name: str
    offset: int
    code: bytes
    source: str


_CALL: Final = "mov edx, ebx; mov ebx, [esp+4]; mov ecx, [esp+8]; int 0x80; mov ebx, edx; ret"  # EAX: its number

_HERE: Final = "mov ecx, [esp]; ret"

_NOW: Final = """
        # EAX: a clock. EAX: its seconds, EDX: nanoseconds, and CF clear; CF set: the system call has to tell.
        cmp eax, 12                     # abi/time.py
        jae no
        push eax
        push eax                        # [esp]: the sequence number; later seconds
    again:
        call {here}
        cmp dword ptr [ecx-{mode}], 0
        je away
        mov edx, 0x821                  # CLOCK_REALTIME, CLOCK_REALTIME_COARSE, CLOCK_TAI
        bt edx, eax
        jnc monotonic
        mov eax, [ecx-{sequence}]
        mov [esp], eax
        rdtsc
        test byte ptr [esp], 1
        jnz other
        add eax, [ecx-{to_add}]
        adc edx, [ecx-{to_add}+4]
        jmp check
    other:
        add eax, [ecx-{to_add}+8]
        adc edx, [ecx-{to_add}+12]
    check:
        mov ecx, [ecx-{sequence}]
        cmp ecx, [esp]
        je split
        mov eax, [esp+4]
        jmp again
    monotonic:
        mov edx, 0xd2                   # CLOCK_MONOTONIC, _RAW, _COARSE, CLOCK_BOOTTIME
        bt edx, eax
        jnc away
        rdtsc
    split:
        mov ecx, 1000000000
        div ecx
        mov ecx, [esp+4]
        sub ecx, 5                      # the two coarse clocks count by 4 ms
        cmp ecx, 2
        jae fine
        mov [esp], eax
        mov eax, edx
        xor edx, edx
        mov ecx, 4000000
        div ecx
        imul edx, eax, 4000000
        mov eax, [esp]
    fine:
        add esp, 8
        clc
        ret
    away:
        add esp, 8
    no:
        stc
        ret
"""

_CLOCK_GETTIME64: Final = """
        mov eax, [esp+4]
        call {now}
        jc ask
        mov ecx, [esp+8]
        mov [ecx], eax
        mov dword ptr [ecx+4], 0
        mov [ecx+8], edx
        mov dword ptr [ecx+12], 0
        xor eax, eax
        ret
    ask:
        mov eax, 403
        jmp {call}
"""

_CLOCK_GETTIME: Final = """
        mov eax, [esp+4]
        call {now}
        jc ask
        mov ecx, [esp+8]
        mov [ecx], eax
        mov [ecx+4], edx
        xor eax, eax
        ret
    ask:
        mov eax, 265
        jmp {call}
"""

_CLOCK_GETRES: Final = """
        mov eax, [esp+4]
        cmp eax, 12
        jae ask
        mov edx, 0x8f3                  # those that `now` knows
        bt edx, eax
        jnc ask
        mov ecx, [esp+8]
        test ecx, ecx
        jz done
        mov dword ptr [ecx], 0
        mov dword ptr [ecx+4], 1
        sub eax, 5
        cmp eax, 2
        jae done
        mov dword ptr [ecx+4], 4000000
    done:
        xor eax, eax
        ret
    ask:
        mov eax, 266
        jmp {call}
"""

_GETTIMEOFDAY: Final = """
        cmp dword ptr [esp+4], 0
        je zone
        xor eax, eax
        call {now}
        jc ask
        mov ecx, [esp+4]
        mov [ecx], eax
        mov eax, edx
        xor edx, edx
        mov ecx, 1000
        div ecx
        mov ecx, [esp+4]
        mov [ecx+4], eax
    zone:
        mov ecx, [esp+8]
        test ecx, ecx
        jz done
        mov dword ptr [ecx], 0          # UTC
        mov dword ptr [ecx+4], 0
    done:
        xor eax, eax
        ret
    ask:
        mov eax, 78
        jmp {call}
"""

_TIME: Final = """
        xor eax, eax
        call {now}
        jc ask
        mov ecx, [esp+4]
        test ecx, ecx
        jz done
        mov [ecx], eax
    done:
        ret
    ask:
        mov eax, 13
        mov edx, ebx
        mov ebx, [esp+4]
        int 0x80
        mov ebx, edx
        ret
"""

_GETCPU: Final = """
        mov ecx, [esp+4]                # there is one processor, on one node
        test ecx, ecx
        jz node
        mov dword ptr [ecx], 0
    node:
        mov ecx, [esp+8]
        test ecx, ecx
        jz done
        mov dword ptr [ecx], 0
    done:
        xor eax, eax
        ret
"""


def _routine(name: str, offset: int, code: str, source: str) -> Routine:
    return Routine(name, offset, bytes.fromhex(code), source)


ROUTINES: Final = (
    _routine(
        "call",
        0x840,
        "89da8b5c24048b4c2408cd8089d3c3",
        _CALL,
    ),
    _routine(
        "here",
        0x850,
        "8b0c24c3",
        _HERE,
    ),
    _routine(
        "__vdso_clock_gettime64",
        0x860,
        "8b442404e837010000721a8b4c24088901c7410400000000895108c7410c0000000031c0c3b893010000ebb4",
        _CLOCK_GETTIME64,
    ),
    _routine(
        "__vdso_clock_gettime",
        0x890,
        "8b442404e807010000720c8b4c2408890189510431c0c3b809010000eb92",
        _CLOCK_GETTIME,
    ),
    _routine(
        "__vdso_clock_getres",
        0x8B0,
        "8b44240483f80c7331baf30800000fa3c273278b4c240885c9741cc70100000000c741040100000083e80583f8027307"
        "c7410400093d0031c0c3b80a010000e94cffffff",
        _CLOCK_GETRES,
    ),
    _routine(
        "__vdso_gettimeofday",
        0x900,
        "837c240400742131c0e89200000072308b4c2404890189d031d2b9e8030000f7f18b4c24048941048b4c240885c9740d"
        "c70100000000c741040000000031c0c3b84e000000e9f6feffff",
        _GETTIMEOFDAY,
    ),
    _routine(
        "__vdso_time",
        0x950,
        "31c0e849000000720b8b4c240485c974028901c3b80d00000089da8b5c2404cd8089d3c3",
        _TIME,
    ),
    _routine(
        "__vdso_getcpu",
        0x980,
        "8b4c240485c97406c701000000008b4c240885c97406c7010000000031c0c3",
        _GETCPU,
    ),
    _routine(
        "now",
        0x9A0,
        "83f80c0f83980000005050e8a0feffff83b950e6ffff000f8481000000ba210800000fa3c2733c8b8154e6ffff890424"
        "0f31f6042401750e038158e6ffff13915ce6ffffeb0c038160e6ffff139164e6ffff8b8954e6ffff3b0c2474128b4424"
        "04eba8bad20000000fa3c273310f31b900ca9a3bf7f18b4c240483e90583f902731789042489d031d2b900093d00f7f1"
        "69d000093d008b042483c408f8c383c408f9c3",
        _NOW,
    ),
)
NOW: Final = ROUTINES[-1]
AFTER: Final = NOW.offset + 16  # where `here` returns to there
NOW_FRAME: Final = bytes.fromhex("4a0e08 410e0c 02910e04 420e0c 430e04")
"""Its unwinding: CFA is ESP + 4 (everywhere else, too), + 8 and + 12 behind the pushes, + 4 behind what takes them
back: DW_CFA_advance_loc and DW_CFA_def_cfa_offset in turns."""


def places() -> dict[str, int]:
    """What stands in the sources as `{name}`."""
    back = AFTER + PAGE  # from there to the page of clocks, which is below the vdso
    fields = {"mode": back - MODE, "sequence": back - SEQUENCE, "to_add": back - TO_ADD}
    return {routine.name: routine.offset for routine in ROUTINES} | fields
