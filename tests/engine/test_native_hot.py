"""Regions: the same state, count and exit as the evaluator's wherever a run is cut, and nothing of them left behind
where code changes.
"""

from __future__ import annotations

import gc
import itertools
import random
import re
import struct
from collections.abc import Callable

import anyio
import pytest

from aiopyvm import VM
from aiopyvm.engine.native.engine import NativeEngine
from aiopyvm.engine.native.hot import Hot
from aiopyvm.engine.native.layout import CHECKED, MMU, RECORD_SIZE
from aiopyvm.engine.native.recordarena import RecordArena
from aiopyvm.engine.native.regionfile import chunks_of
from aiopyvm.engine.native.regionloops import MOST_COPIES
from aiopyvm.engine.native.regionplan import Request
from aiopyvm.engine.native.regionrequest import request_for
from aiopyvm.engine.native.regions import Graph
from aiopyvm.engine.native.regiontext import RegionText
from aiopyvm.engine.native.space import SpaceCode
from aiopyvm.engine.protocol import Core, Exit, ExitReason
from aiopyvm.engine.python import PythonEngine
from aiopyvm.isa.assemble import assemble
from aiopyvm.mem.layout import EXEC
from aiopyvm.runtime import machine as machines
from tests.conftest import GUESTS
from tests.engine.branching import branching
from tests.engine.campaign import KINDS, case, differences
from tests.engine.engines import hot_engine, native_handlers
from tests.engine.test_code import BASE, machine
from tests.engine.test_native_engine import SLICES, finish, mixed

LOOPS = [kind for kind in ("loop", "loop itself", "flags loop") if kind in KINDS]


def regions(engine: NativeEngine, what: str) -> int:
    """How many regions something became of."""
    return engine.statistics()[f"regions_{what}"]


def made(engine: NativeEngine) -> int:
    """How many regions there were, by whatever way."""
    return regions(engine, "compiled") + regions(engine, "cached")


@pytest.fixture(params=(CHECKED, MMU))
def memory(request: pytest.FixtureRequest) -> str:
    """The form of the regions' accesses."""
    return str(request.param)


@pytest.mark.parametrize("kind", LOOPS)
def test_random_loops(kind: str, memory: str) -> None:
    evaluator, count = PythonEngine("evaluator"), 0
    for number in range(KINDS.index(kind), 40 * len(KINDS), len(KINDS)):
        program, slices = case(7, number)
        engine = hot_engine(memory=memory)
        found = list(differences(program, slices, evaluator, {"hot": engine}))
        assert not found, (kind, number, program, slices, found)
        count += made(engine)
    assert count


def test_every_slicing_ends_the_same(memory: str) -> None:
    expected = finish(PythonEngine("evaluator"), mixed(), lambda: 100_000)
    engine = hot_engine(3, memory=memory)
    for budget in SLICES:
        assert finish(engine, mixed(), itertools.repeat(budget).__next__) == expected, budget
    random_ = random.Random(5)
    for _ in range(20):
        assert finish(engine, mixed(), lambda: random_.randrange(1, 200)) == expected
    assert made(engine)
    assert regions(engine, "adopted")


@pytest.mark.parametrize(
    ("guest", "arguments"),
    [("sieve", "3000"), ("sha256", "2"), ("quicksort", "700"), ("fib", "12"), ("bytecode", "8"), ("bubblesort", "70")]
    + [
        ("recursion", ""),
        ("matrix", "6"),
        ("structs", ""),
        ("structs_o0", ""),
        ("memcpy_test", ""),
        ("malloc_test", ""),
    ],
)
def test_guests(guest: str, arguments: str, monkeypatch: pytest.MonkeyPatch, memory: str) -> None:
    def run(engine: str, quantum: int) -> tuple[object, ...]:
        result = anyio.run(VM(engine=engine, quantum=quantum).run_elf, GUESTS / guest, *arguments.split())
        return result.returncode, result.stdout, result.instructions

    expected = run("python", 10_000)
    engine = hot_engine(20, memory=memory)
    monkeypatch.setitem(machines._engines, "native", engine)
    for quantum in (10_000, 1_000_000, 997):
        assert run("native", quantum) == expected
    assert made(engine)


def looping(text: str) -> Core:
    """A core about to run `text` at BASE, in pages that it may write and execute."""
    return machine(assemble(text, BASE), pages=3)


def test_code_that_a_region_overwrites(memory: str) -> None:
    core = looping("""
        mov ecx, 300
    again:
        mov eax, 1
        add ebx, eax
        cmp ecx, 100
        jnz same
        mov dword ptr [again + 1], 1000
    same:
        dec ecx
        jnz again
        int 0x80
    """)
    engine = hot_engine(5, memory=memory)
    assert engine.run(core, 10_000) == Exit(ExitReason.SYSCALL)
    assert core.cpu.ebx == 201 + 99 * 1000
    assert regions(engine, "dropped")


def test_flags_of_what_was_widened_for_another_use(memory: str) -> None:
    """SBB of bytes leaves a result's low byte as a value of its own, which the parity's word is not made of."""

    def program() -> Core:
        core = looping("""
            mov ecx, 9
        again:
            shld [esi + 0x7fc], edx, 3
            xor eax, [edi + ebx * 4 - 0x121d]
            add ebp, 2
            sbb dl, [ebp + 4]
            jb over
            neg edi
        over:
            dec ecx
            jnz again
            int 0x80
        """)
        cpu = core.cpu
        cpu.esi, cpu.edx, cpu.edi, cpu.ebp, cpu.eax = 0x11000, 0x12345687, 0x1321D, 0x11010, 77
        core.memory.write(0x11000, bytes(range(0, 256, 3)) * 40)
        return core

    expected = finish(PythonEngine("evaluator"), program(), lambda: 100_000)
    engine = hot_engine(memory=memory)
    for budget in SLICES:
        assert finish(engine, program(), itertools.repeat(budget).__next__) == expected, budget
    assert made(engine)
    assert not regions(engine, "failed")


def test_a_page_that_is_taken_away_faults_where_it_is_used(memory: str) -> None:
    text = (
        "again: mov eax, [edi]; add edi, 4; cmp edi, 0x12ff0; jb again; mov edi, 0x12000; dec ecx; jnz again; int 0x80"
    )
    core = looping(text)
    core.cpu.edi, core.cpu.ecx = 0x12000, 1 << 20
    engine = hot_engine(5, memory=memory)
    assert engine.run(core, 100_000).reason is ExitReason.BUDGET
    core.memory.protect(0x12000, 4096, 0)
    core.cpu.edi, core.cpu.eip = 0x12008, BASE
    before = core.cpu.instructions
    exit_ = engine.run(core, 100)
    assert (exit_.reason, exit_.vector, exit_.address, exit_.access) == (ExitReason.FAULT, 14, 0x12008, "r")
    assert core.cpu.instructions == before
    assert made(engine)


def test_an_access_over_two_pages(memory: str) -> None:
    text = "again: add [edi], ecx; adc eax, [edi]; dec ecx; jnz again; int 0x80"
    states = []
    for engine in (PythonEngine("evaluator"), hot_engine(5, memory=memory)):
        for last in (3, 1):
            core = looping(text)
            core.cpu.edi, core.cpu.ecx = 0x11FFE, 1000
            core.memory.protect(0x12000, 4096, last)
            exit_ = engine.run(core, 100_000)
            states.append((exit_, bytes(core.cpu), core.memory.peek(0x11FF0, 32)))
    assert states[:2] == states[2:]


def every_slicing_ends_the_same(program: Callable[[], Core], hot: NativeEngine) -> None:
    """Run a new `program` on the evaluator and on a hot engine, in slices of every length; regions are made."""
    states = []
    for engine in (PythonEngine("evaluator"), hot):
        for budget in (100_000, 1, 2, 3, 7, 61, 997):
            core, exit_ = program(), Exit(ExitReason.BUDGET)
            while exit_.reason is ExitReason.BUDGET:
                exit_ = engine.run(core, budget)
            states.append((exit_, bytes(core.cpu), core.memory.peek(0x11000, 4096)))
    assert states == states[:1] * len(states)
    assert made(hot)


@pytest.mark.parametrize(
    "loop",
    [
        "mov dl, [esi + ecx]; inc ecx; mov [edi + ecx - 1], dl; cmp ecx, 37; jnz again",  # up to the last byte
        "dec ecx; mov dl, [edi + ecx]; mov [esi + ecx], dl; jnz again",  # down from it
        "mov edx, [esi + ecx * 4]; add ebx, edx; adc [esi + ecx * 4 + 4], ebx; inc ecx; cmp ecx, 9; jb again",
        "lodsb; stosb; add bl, al; dec ecx; jnz again",
        "add ebx, [edi]; add edi, 4; dec ecx; jnz again",  # and over it: a fault
    ],
)
def test_a_loop_at_the_end_of_memory(loop: str, memory: str) -> None:
    """A region looks at several passes' accesses at once; only those that are made may fault."""

    def program() -> Core:
        core = looping(f"mov ebp, 3; more: mov ecx, [0x11000]; again: {loop}; dec ebp; jnz more; int 0x80")
        core.memory.write(0x11000, bytes([37 if "dec" in loop else 0, 0, 0, 0, *range(5, 205)]))
        core.memory.protect(0x12000, 4096, 0)
        core.cpu.esi, core.cpu.edi = 0x11080, 0x12000 - 37
        return core

    every_slicing_ends_the_same(program, hot_engine(memory=memory))


@pytest.mark.parametrize("string", ["movsb", "movsd", "stosb", "stosd", "movsw", "lodsb"])
@pytest.mark.parametrize("direction", ["cld", "std"])
@pytest.mark.parametrize(("most", "memory"), [(0x1F, MMU), (0xFF, MMU), (0xFF, CHECKED)])
def test_repeated_strings(string: str, direction: str, most: int, memory: str) -> None:
    """REP with counts about the one from which many passes are one, and large ones, up to a page that may not be
    written, onto itself."""

    def program() -> Core:
        core = looping(f"""
            {direction}
        again:
            mov ecx, [0x11000]
            and ecx, {most}
            mov esi, [0x11004]
            mov edi, [0x11008]
            add eax, ecx
            rep {string}
            adc ebx, esi
            add dword ptr [0x11000], 7
            add dword ptr [0x11004], 3
            xor dword ptr [0x11008], 0x10
            dec ebp
            jnz again
            mov ecx, 200
            rep {string}
            int 0x80
        """)
        core.memory.write(0x11000, struct.pack("<3I", 5, 0x11400, 0x11410) + bytes(range(1, 250)) * 8)
        core.memory.protect(0x12000, 4096, 1)
        core.cpu.ebp = 40 if most < 0x80 else 8
        return core

    every_slicing_ends_the_same(program, hot_engine(memory=memory))


_PARTS = """
mov ecx, 60; outer: mov edx, 5;
inner: add eax, edx; test eax, 1; jz even; add ebx, 3; jmp next; even: xor ebx, eax; next: dec edx; jnz inner;
call f; dec ecx; jnz outer; int 0x80;
f: add esi, ebx; mov [0x11000+ecx*4], esi; cmp esi, 1000; ja g; inc edi; g: ret
""".replace("\n", " ")


def test_code_that_is_hot_when_everything_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A counter runs out, the region that is known covers code that is new here, and there is no room for that."""

    def run(engine: NativeEngine | PythonEngine, seed: int) -> tuple[bytes, bytes, int]:
        random_, core = random.Random(seed), looping(_PARTS)
        core.cpu.esp = 0x12F00
        while (exit_ := engine.run(core, random_.choice((7, 50, 500)))).reason is ExitReason.BUDGET:
            pass
        assert exit_.reason is ExitReason.SYSCALL
        cleared = sum(code.generation for code in core.memory.translations.values() if isinstance(code, SpaceCode))
        return bytes(core.cpu), core.memory.peek(0x11000, 0x2000), cleared

    room, table, cleared, limit = RecordArena.room, native_handlers(), 0, [0]
    monkeypatch.setattr(RecordArena, "room", lambda a, more: room(a, more) and a.top // RECORD_SIZE + more <= limit[0])
    for limit[0] in range(8, 18):
        engine = NativeEngine(lambda: table, lambda symbols: Hot(symbols, 1, wait=True))
        for seed in range(3):
            *expected, _ = run(PythonEngine("evaluator"), seed)
            *actual, generation = run(engine, seed)
            assert actual == expected, (limit, seed)
            cleared += generation
    assert cleared


def test_code_is_hot_also_where_the_budget_ends(memory: str) -> None:
    core = looping("again: dec ecx; jnz again; int 0x80")
    core.cpu.ecx = 1000
    engine = hot_engine(5, memory=memory)
    for _ in range(8):  # each run ends with the branch, one of them when the counter has run out
        engine.run(core, 2)
    assert not made(engine)
    engine.run(core, 1000)
    assert core.cpu.ecx == 492
    assert made(engine) == 1


def test_a_region_with_little_budget_does_no_harm(memory: str) -> None:
    core = looping("again: inc eax; dec ecx; jnz again; int 0x80")
    core.cpu.ecx = 5000
    engine = hot_engine(2, memory=memory)
    engine.run(core, 30)
    count = core.cpu.instructions
    while (exit_ := engine.run(core, 1)).reason is ExitReason.BUDGET:
        count += 1
        assert core.cpu.instructions == count
    assert exit_.reason is ExitReason.SYSCALL
    assert core.cpu.eax == 5000
    assert made(engine)


def test_random_branches(memory: str) -> None:
    count = 0
    for seed in range(40):
        budgets = random.Random(seed).choice(((1_000_000,), (1000, 7, 333), (61, 2, 3), (100_000, 1)))
        states = []
        for engine in (PythonEngine("cold"), hot := hot_engine(random.Random(seed).choice((2, 5, 20)), memory=memory)):
            core, cut = branching(seed), itertools.cycle(budgets)
            exit_ = engine.run(core, next(cut))
            while exit_.reason is ExitReason.BUDGET and core.cpu.instructions < 100_000:
                exit_ = engine.run(core, next(cut))
            states.append((exit_, bytes(core.cpu), core.memory.peek(0x11000, 0x5000)))
        assert states[0] == states[1], seed
        count += made(hot)
    assert count > 20


@pytest.mark.parametrize("budget", [1, 5, 61, 100_000])
def test_every_instruction_is_counted_for_who_executed_it(budget: int) -> None:
    engine, core = hot_engine(2), mixed()
    finish(engine, core, lambda: budget)
    counts = engine.statistics()
    tiers = [counts[f"instructions_{tier}"] for tier in ("hot", "cold", "evaluated", "python")]
    assert sum(tiers) == counts["instructions"] == core.cpu.instructions
    assert min(tiers) >= 0
    if budget in (1, 100_000):  # between them it depends on how large regions are
        assert (tiers[0] > counts["instructions"] // 2) == (budget == 100_000)
    core.memory.close()
    del core
    gc.collect()
    assert engine.statistics()["instructions_hot"] == tiers[0]


def test_what_a_region_executes_is_counted_exactly() -> None:
    """A run begins and ends with a few passes of cold code, the same ones whatever its length."""
    engine, core = hot_engine(1), looping("again: inc eax; nop; dec ecx; jnz again; hlt")
    core.cpu.ecx = 5000
    engine.run(core, 4 * 100)
    found = []
    for passes in (500, 1500):
        before = engine.statistics()["instructions_hot"]
        engine.run(core, 4 * passes)
        found.append(engine.statistics()["instructions_hot"] - before)
    assert found[1] - found[0] == 4 * 1000
    assert 0 <= 4 * 500 - found[0] < 200


@pytest.mark.parametrize("call", ["call dword ptr [0x11000]", "call dword ptr [ebx + 0x11000]"])
def test_a_word_in_memory_that_leads_elsewhere_later(call: str, memory: str) -> None:
    """What a PLT's jumps and calls lead to is part of a region as long as the word is what it was."""

    def program() -> Core:
        return looping(f"""
            mov dword ptr [0x11000], f
            mov dword ptr [0x11004], g
            mov ecx, 3000
        again:
            {call}
            add esi, eax
            dec ecx
            jnz again
            int 0x80
        f:  jmp dword ptr [0x11004]
        g:  lea eax, [ecx + edx * 2]
            cmp ecx, 1500
            jne h
            mov dword ptr [0x11004], k
        h:  ret
        k:  sub edx, ecx
            lea eax, [edx * 4]
            ret
        """)

    engine = hot_engine(100, memory=memory)
    assert finish(engine, program(), lambda: 997) == finish(PythonEngine("evaluator"), program(), lambda: 997)


def test_a_region_follows_words_in_memory() -> None:
    code = assemble("again: call dword ptr [0x11000]; jmp again; f: jmp dword ptr [0x11004]; g: inc eax; ret", BASE)
    f = BASE + 8
    words = (0x11000, ((0, f),)), (0x11004, ((0, f + 6),))
    assert {node.eip for node in Graph(Request(BASE, ((BASE, code),), words)).nodes} >= {BASE, f, f + 6, BASE + 6}
    assert len(Graph(Request(BASE, ((BASE, code),))).nodes) == 1


def test_a_loop_of_two_blocks_is_repeated() -> None:
    """Where Python executed an instruction, a block begins behind it; to a region they are one."""
    code = assemble("again: add eax, ebx\nmul ecx\nsub edx, 3\ndec esi\njnz again", BASE)
    whole = Graph(Request(BASE, ((BASE, code),)))
    parted = Graph(Request(BASE, ((BASE, code[:4]), (BASE + 4, code[4:]))))
    assert [(node.eip, node.insns) for node in parted.nodes] == [(node.eip, node.insns) for node in whole.nodes]
    assert parted.nodes[0].again is not None


def test_a_search_by_vectors_is_repeated_over_its_nodes() -> None:
    """What is left from the middle goes round in copies, each entered from the one before; other loops of several nodes
    stay as they are."""
    search = "again: movdqu xmm1, [eax]; pcmpistri xmm0, xmm1, 0x1a; jbe out; add eax, 16; jle again; out: hlt"
    graph = Graph(Request(BASE, ((BASE, assemble(search, BASE)),)))
    passes = [node for node in graph.nodes if node.eip == BASE]
    assert [node.join for node in passes] == [True] + (MOST_COPIES - 1) * [False]
    assert sum(bool(node.retreating) for node in graph.nodes) == 1
    plain = search.replace("movdqu xmm1, [eax]; pcmpistri xmm0, xmm1, 0x1a", "cmp ebx, [eax]")
    graph = Graph(Request(BASE, ((BASE, assemble(plain, BASE)),)))
    assert not any(node.again for node in graph.nodes)


def test_a_search_that_is_entered_in_its_middle_is_repeated_beside_its_root() -> None:
    """The root leads into the loop, which has a copy of it instead and is repeated from where it begins."""
    head = "search: xor ebx, ebx\nagain: movdqu xmm1, [eax]; pcmpistri xmm0, xmm1, 0x1a; jbe out"
    code = assemble(f"{head}\nadd eax, 16; jle again; out: dec edx; jnz search; hlt", BASE)
    again, root = BASE + 2, BASE + len(assemble(f"{head}\nout: nop", BASE)) - 1
    graph = Graph(Request(root, ((BASE, code), (again, code[2:]), (root, code[root - BASE :]))))
    passes = [node for node in graph.nodes if node.eip in (again, root)]
    numbers = [
        (node.eip == root, node.entered, node.again.index if node.again is not None else None) for node in passes
    ]
    behind = [node.index for node in passes[2:]]
    assert numbers[:2] == [(True, 0, None), (False, 3, behind[0])]
    assert numbers[2:] == [(n % 2 == 0, 1, after) for n, after in enumerate([*behind[1:], None])]
    assert len(behind) == 2 * MOST_COPIES - 1


def test_nodes_that_follow_one_another_alone_are_one_block() -> None:
    """Here the root parts what compares from the branch in each pass: LLVM moves what only ways out ask for, words of
    flags, from one block to the next and no further."""
    search = "again: movdqu xmm1, [eax]; pcmpistri xmm0, xmm1, 0x1a\nroot: jbe out; add eax, 16; jle again; out: hlt"
    code = assemble(search, BASE)
    root = len(assemble(search.partition("\n")[0], BASE))
    graph = Graph(Request(BASE + root, ((BASE, code[:root]), (BASE + root, code[root:]))))
    text = RegionText(graph, "region").write()
    passes = text.count("pcmpistri")
    assert len(re.findall(r"lahf[^:]*\n  br i1 ", text)) == passes - 1 > 1  # the last one goes to the root


@pytest.mark.parametrize(
    "look",
    [
        "movdqu xmm1, [eax]; pcmpistri xmm0, xmm1, 0x02; jb found; add eax, 16",
        "movdqu xmm1, [eax]; pcmpeqb xmm1, xmm0; pmovmskb ecx, xmm1; test ecx, ecx; jnz found; add eax, 16",
    ],
)
@pytest.mark.parametrize("end", [0x11100, 0x12010])
def test_a_repeated_search_ends_in_any_copy(look: str, end: int, memory: str) -> None:
    """Searches that end after 1, 2, 3... passes, and at last one that finds nothing up to a limit, or up to a byte that
    may not be read."""

    def program() -> Core:
        core = looping(f"""
            mov edx, 0x110f7
        search:
            mov byte ptr [edx], 7
            mov eax, 0x11003
        again:
            {look}
            cmp eax, {end}
            jb again
        found:
            lea ebx, [ebx + 8 * eax]
            add esi, ecx
            mov byte ptr [edx], 1
            sub edx, 11
            cmp edx, 0x11000
            jae search
            mov eax, 0x11000
        last:
            {look}
            cmp eax, {end}
            jb last
            hlt
        """)
        core.memory.write(0x11000, b"\x01" * 0x1000)
        core.memory.protect(0x12000, 4096, 0)
        core.cpu.ymm0 = 7 * int.from_bytes(b"\x01" * 16) if "pcmpeqb" in look else 7
        return core

    every_slicing_ends_the_same(program, hot_engine(memory=memory))


def test_jumps_by_a_table_of_distances(memory: str) -> None:
    """As in glibc's string routines: where they led is part of the region, and what becomes of the table is seen."""
    text = """
    again:
        mov ecx, edi
        and ecx, 3
        call thunk
    here:
        add ebx, 0x1006
        add ebx, [ebx + ecx * 4]
        add edx, ecx
        jmp ebx
    zero:
        add eax, 1
    one:
        add eax, 2
    two:
        lea esi, [esi + eax * 2]
        cmp edi, 100
        jnz behind
        mov dword ptr [here + 0x100e], 0x10000000
    behind:
        dec edi
        jnz again
        hlt
    thunk:
        mov ebx, [esp]
        ret
    """
    code = assemble(text, BASE)
    here, jump = BASE + 10, code.index(b"\xff\xe3")
    zero = jump + 2

    def program() -> Core:
        core = looping(text)
        distances = [BASE + zero + more - here - 0x1006 for more in (0, 3, 6, 3)]
        core.memory.write(here + 0x1006, struct.pack("<4i", *distances))
        core.cpu.edi, core.cpu.esp = 150, 0x12800
        return core

    engine = hot_engine(10, memory=memory)
    every_slicing_ends_the_same(program, engine)
    core = program()
    engine.run(core, 600)
    (space,) = [code for code in core.memory.translations.values() if isinstance(code, SpaceCode)]
    request = request_for(space, BASE, memory, (0, 0))
    targets = [BASE + zero + more for more in (0, 3, 6, 3)]
    assert request.jumps == ((BASE + jump, tuple(enumerate(targets))),)
    nodes = {node.eip: node for node in Graph(Request.from_text(request.to_text())).nodes}
    assert set(targets) <= set(nodes)
    assert set(targets) == next(set(node.cases) for node in nodes.values() if len(node.cases) > 1)
    core.memory.pages[BASE >> 12] &= ~EXEC  # as where kept code was adopted and its page has not been touched yet
    assert request_for(space, BASE, memory, (0, 0)).jumps == request.jumps


def test_what_was_hardly_ever_executed_takes_no_room_in_a_region() -> None:
    """But where regions pass nothing is counted: what one of them covers is taken for hot."""
    text = """
        again: call often; test ecx, 0x3ff; jnz behind; call seldom
        behind: dec ecx; jnz again; hlt
        often: inc eax; ret
        seldom: inc ebx; ret
    """
    code = assemble(text, BASE)
    core, engine = looping(text), hot_engine(1 << 12)
    core.cpu.ecx, core.cpu.esp = 3000, 0x12800
    engine.run(core, 10**6)
    (space,) = [code for code in core.memory.translations.values() if isinstance(code, SpaceCode)]
    often = BASE + code.index(assemble("inc eax", 0))
    seldom = BASE + code.index(assemble("inc ebx", 0))
    assert (core.cpu.eax, core.cpu.ebx) == (3000, 2)
    starts = {at for at, _ in request_for(space, BASE, CHECKED, (0, 0)).blocks}
    assert often in starts
    assert seldom not in starts
    chunks = chunks_of(((seldom, b"\x43\xc3"),))
    starts = {at for at, _ in request_for(space, BASE, CHECKED, (0, 0), chunks=[chunks]).blocks}
    assert {often, seldom} <= starts
