"""Looking into the machine: registers, memory, steps, breakpoints, hooks, traces, files, terminals, refusals."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from aiopyvm import (
    PIPE,
    VM,
    CodeHook,
    GuestMemoryError,
    HostDir,
    HostRefusedError,
    Limits,
    MemoryHook,
    Process,
    Reason,
    Runtime,
    Step,
    SyscallHook,
    assemble,
)
from aiopyvm.runtime.hooks import Event
from tests.conftest import GuestPaths
from tests.native import glibc_path
from tests.runtime.machine_code import call, exit_after, program

pytestmark = pytest.mark.both_loops

LOOP = "mov ecx, 3; again: add eax, eax; loop again"


async def test_stepping() -> None:
    async with VM().open_bytes(assemble(LOOP), paused=True) as process:
        process.registers.eax = 7
        steps: list[Step] = []
        while (step := await process.step()) is not None:
            steps.append(step)
        assert process.registers.eax == 56
    assert [step.address for step in steps] == [0, 5, 7, 5, 7, 5, 7]
    assert steps[0].changes == {"ecx": 3}
    assert steps[0].code == bytes.fromhex("b903000000")
    assert steps[1].text == "add eax, eax"
    assert steps[1].changes["eax"] == 14
    assert process.result.reason is Reason.END_OF_CODE


async def test_a_step_shows_memory_that_changed() -> None:
    async with VM().open_bytes(program("mov dword ptr [0x800], 5; push 9; "), paused=True) as process:
        first, second = await process.step(), await process.step()
        assert first is not None
        assert second is not None
        assert first.changes == {"[0x800]": 5}
        assert second.changes[f"[{process.registers.esp:#x}]"] == 9
        assert "esp" in second.changes


async def test_stepping_through_a_blocking_call() -> None:
    text = call("read", 0, 0x800, 4) + "nop; "
    async with VM().open_bytes(program(text), paused=True, stdin=PIPE) as process:
        for _ in range(5):
            assert await process.step() is not None
        assert process.stdin is not None
        await process.stdin.send(b"abc")
        step = await process.step()
        assert step is not None
        assert step.text == "nop"
        assert process.registers.eax == 3
        assert process.memory.read(0x800, 3) == b"abc"


async def test_only_a_paused_process_is_stepped(guest: GuestPaths) -> None:
    async with VM().open_elf(guest("spin")) as process:
        with pytest.raises(RuntimeError, match="paused"):
            await process.step()
        process.kill()
        await process.wait()
        assert await process.step() is None


async def test_a_paused_process_that_is_left_is_killed(guest: GuestPaths) -> None:
    async with VM().open_elf(guest("hello"), paused=True) as process:
        pass
    assert process.result.reason is Reason.KILLED
    assert process.result.instructions == 0


async def test_breakpoints(guest: GuestPaths) -> None:
    async with VM().open_elf(guest("fib"), "5", paused=True) as process:
        fib = process.symbols["fib"]
        process.breakpoints.add(fib)
        stops = 0
        while (at := await process.resume()) is not None:
            assert at == fib == process.registers.eip
            stops += 1
    steps: list[Step] = []
    await VM().run_elf(guest("fib"), "5", trace=steps.append)
    assert stops == sum(step.address == fib for step in steps) > 5
    assert process.result.stdout == b"fib(5) = 5\n"


async def test_a_breakpoint_is_hit_whatever_the_quantum() -> None:
    code = assemble("mov ecx, 50; again: dec ecx; jnz again; nop; nop")
    for quantum in (1, 2, 3, 100):
        async with VM(quantum=quantum).open_bytes(code, paused=True) as process:
            process.breakpoints.add(5)
            hits = 0
            while await process.resume() is not None:
                hits += 1
            assert hits == 50


async def test_registers(guest: GuestPaths) -> None:
    async with VM().open_elf(guest("hello"), paused=True) as process:
        r = process.registers
        r.eax = 0x1_1234_5678
        assert (r.eax, r.ax, r.ah, r.al, r[0], r["eax"]) == (0x12345678, 0x5678, 0x56, 0x78, 0x12345678, 0x12345678)
        r.ah = 0xFF
        assert r.eax == 0x1234FF78
        r[3] = -1
        assert r.ebx == 0xFFFFFFFF
        r.zf = 1
        assert r.eflags & 0x40
        r.eflags = 0
        assert r.zf == 0
        with pytest.raises(AttributeError):
            _ = r.rax
        with pytest.raises(AttributeError):
            r.rax = 1
        with pytest.raises(KeyError):
            _ = r["st0"]
        with pytest.raises(IndexError):
            _ = r[8]
        with pytest.raises(TypeError):
            r.eax = "1"  # type: ignore[assignment]


async def test_memory(guest: GuestPaths) -> None:
    async with VM().open_elf(guest("hello"), paused=True) as process:
        m, esp = process.memory, process.registers.esp
        process.push(0xDEADBEEF)
        assert process.registers.esp == esp - 4
        assert m.read_u32(esp - 4) == 0xDEADBEEF
        assert (m.read_u8(esp - 4), m.read_u16(esp - 4)) == (0xEF, 0xBEEF)
        assert process.pop() == 0xDEADBEEF
        m.fill(esp - 64, 32, 0x5A)
        assert m.read(esp - 65, 4)[1:] == b"ZZZ"
        m.write_u8(esp, 0x1FF)
        m.write_u16(esp + 2, 0x1234)
        assert m.read(esp, 4) == b"\xff\x00\x34\x12" or m.read(esp, 4)[0] == 0xFF
        for action in (lambda: m.read(0x10, 4), lambda: m.write(0xFFFFFFF0, b"x"), lambda: m.read_u32(0x10)):
            with pytest.raises(GuestMemoryError):
                action()
        with pytest.raises(IndexError):
            m.fill(0x10, 4)


async def test_trace_and_strace(guest: GuestPaths) -> None:
    steps: list[Step] = []
    lines: list[str] = []
    result = await VM().run_elf(guest("hello"), trace=steps.append, strace=lines.append)
    assert result.stdout == b"Hello, world!\n"
    assert lines[1:] == [
        'write(1, "Hello, world!\\n", 14)         = 14',
        "exit(0)                                 = ?",
        "+++ exited with 0 +++",
    ]
    assert abs(len(steps) - result.instructions) <= 1
    assert any(step.text.startswith("int") for step in steps)
    plain = await VM().run_elf(guest("hello"))
    assert plain.instructions == result.instructions


async def test_an_exception_of_a_trace_passes_on(guest: GuestPaths) -> None:
    def trace(step: Step) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await VM().run_elf(guest("hello"), trace=trace)
    with pytest.raises(KeyError, match="mine"):
        await VM().run_elf(guest("hello"), strace=trace)  # type: ignore[arg-type]


async def test_an_exception_of_strace_at_the_last_call_passes_on(guest: GuestPaths) -> None:
    def show(line: str) -> None:
        if line.startswith("exit"):
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await VM().run_elf(guest("hello"), strace=show)


async def test_code_hooks_plain_and_async(guest: GuestPaths) -> None:
    seen: list[int] = []

    def plain(event: Event) -> None:
        seen.append(event.registers.eax)

    async def slow(event: Event) -> None:
        await anyio.sleep(0.001)
        seen.append(event.registers.eax)

    async with VM().open_elf(guest("fib"), paused=True) as process:
        fib = process.symbols["fib"]
    for function in (plain, slow):
        seen.clear()
        result = await VM().run_elf(guest("fib"), "4", hooks=[CodeHook(fib, function)])
        assert result.stdout == b"fib(4) = 3\n"
        assert seen == [4, 3, 2, 1, 1]  # the compiler made a loop of the second call


async def test_an_async_hook_rests_only_its_machine(guest: GuestPaths) -> None:
    gate = anyio.Event()

    async def hook(event: Event) -> None:
        await gate.wait()

    async with VM().open_elf(guest("hello"), hooks=[SyscallHook(hook, "write")]) as process:
        assert (await VM().run_elf(guest("hello"))).ok
        assert process.returncode is None
        gate.set()
        assert await process.wait() == 0
    assert process.result.stdout == b"Hello, world!\n"


async def test_a_syscall_hook_answers_in_the_kernels_place(guest: GuestPaths) -> None:
    calls: list[tuple[str, tuple[int, ...]]] = []

    def hook(event: Event) -> int:
        calls.append((event.name, event.args[:1]))
        return event.args[2]

    result = await VM().run_elf(guest("hello"), hooks=[SyscallHook(hook, "write")])
    assert (result.ok, result.stdout) == (True, b"")
    assert calls == [("write", (1,))]


async def test_memory_hooks() -> None:
    accesses: list[tuple[int, int, str]] = []
    text = "mov eax, [0x800]; mov byte ptr [0x803], 1; mov eax, [0x900]; add dword ptr [0x7fe], 1; "
    hook = MemoryHook(0x800, 0x804, lambda event: accesses.append((event.address, event.size, event.access)))
    result = await VM().run_bytes(exit_after(text + "xor eax, eax; "), hooks=[hook])
    assert result.ok
    assert accesses == [(0x800, 4, "r"), (0x803, 1, "w"), (0x7FE, 4, "r"), (0x7FE, 4, "w")]


async def test_a_hook_that_raises(guest: GuestPaths) -> None:
    async def hook(event: Event) -> None:
        await anyio.sleep(0)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await VM().run_elf(guest("hello"), hooks=[SyscallHook(hook)])
    with pytest.raises(KeyError, match="mine"):
        async with VM().open_elf(guest("hello"), hooks=[SyscallHook(hook)]):
            await anyio.sleep_forever()
    with pytest.raises(TypeError, match="hook"):
        await VM().run_elf(guest("hello"), hooks=[print])  # type: ignore[list-item]


async def test_paths(guest: GuestPaths) -> None:
    vm = VM(root={"etc": {"motd": b"welcome\n"}, "bin/cat": guest("cat").read_bytes()})
    motd = vm.path("/etc/motd")
    assert await motd.read_text() == "welcome\n"
    assert await motd.exists()
    assert await motd.is_file()
    assert (await motd.stat()).st_size == 8
    assert not await vm.path("nothing").exists()
    await vm.path("/data").mkdir()
    await vm.path("/data/a/b").mkdir(parents=True)
    note = vm.path("/data") / "note.txt"
    await note.write_text("one\n")
    assert (await vm.run("cat", stdin=b"")).stdout == b""
    assert [str(p) async for p in vm.path("/data").iterdir()] == ["/data/a", "/data/note.txt"]
    await note.rename("/data/renamed")
    await vm.path("/data/link").symlink_to("renamed")
    assert await vm.path("/data/link").is_symlink()
    assert await vm.path("/data/link").read_bytes() == b"one\n"
    assert str(await vm.path("/data/link").readlink()) == "/data/renamed"
    await vm.path("/data/link").unlink()
    await vm.path("/data/renamed").unlink()
    with pytest.raises(FileNotFoundError, match="in the guest"):
        await note.read_bytes()
    with pytest.raises(FileExistsError):
        await vm.path("/data").mkdir()
    with pytest.raises(OSError, match=r"[Nn]ot empty"):
        await vm.path("/data").rmdir()
    await vm.path("/data").mkdir(exist_ok=True)
    await note.unlink(missing_ok=True)


async def test_host_directories(guest: GuestPaths, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_bytes(b"from the host\n")
    for mode in ("ro", "cow", "rw"):
        vm = VM(mounts={"/mnt": HostDir(tmp_path, mode)})
        assert await vm.path("/mnt/in.txt").read_bytes() == b"from the host\n"
        target = vm.path("/mnt/out.txt")
        if mode == "ro":
            with pytest.raises(OSError, match=r"[Rr]ead-only"):
                await target.write_bytes(b"x")
        else:
            await target.write_bytes(b"x")
            assert await target.read_bytes() == b"x"
        assert (tmp_path / "out.txt").exists() == (mode == "rw")
    with pytest.raises(FileNotFoundError):
        await VM(root=tmp_path / "nowhere").run("cat")
    with pytest.raises(ValueError, match="mode"):
        HostDir(tmp_path, "rx")  # type: ignore[arg-type]


async def test_a_terminal(guest: GuestPaths) -> None:
    is_terminal = "mov eax, 54; mov ebx, 1; mov ecx, 0x5401; mov edx, 0x800; int 0x80; neg eax; "
    assert (await VM().run_bytes(exit_after(is_terminal))).returncode == 25  # ENOTTY
    assert (await VM().run_bytes(exit_after(is_terminal), tty=True)).returncode == 0


async def test_refusals_of_limits_are_counted() -> None:
    mmap2 = "mov eax, 192; xor ebx, ebx; mov ecx, 0x10000000; mov edx, 3; mov esi, 0x22; mov edi, -1; xor ebp, ebp; "
    result = await VM(limits=Limits(memory=16 << 20)).run_bytes(exit_after(mmap2 + "int 0x80; neg eax; "))
    assert result.returncode == 12  # ENOMEM
    assert "memory" in result.limits_hit


async def test_every_limit_is_counted_where_it_refuses(guest: GuestPaths) -> None:
    pipes = "again: mov eax, 42; mov ebx, 0x800; int 0x80; test eax, eax; jz again; neg eax; "
    result = await VM(limits=Limits(open_files=10)).run_bytes(exit_after(pipes))
    assert result.returncode == 24  # EMFILE
    assert "open_files" in result.limits_hit
    forks = "again: mov eax, 2; int 0x80; test eax, eax; jns again; neg eax; "
    result = await VM(limits=Limits(processes=5, instructions=100_000)).run_bytes(exit_after(forks))
    assert result.returncode == 11  # EAGAIN
    assert "processes" in result.limits_hit


async def test_memory_that_cannot_be_backed_ends_the_run() -> None:
    mmap2 = "mov eax, 192; xor ebx, ebx; mov ecx, 0x300000; mov edx, 3; mov esi, 0x22; mov edi, -1; xor ebp, ebp; "
    touch = "mov edi, eax; mov ecx, 0x180000; xor eax, eax; rep stosd; "
    async with Runtime(limits=Limits(memory=4 << 20)) as runtime:
        result = await runtime.vm().run_bytes(exit_after(2 * (mmap2 + "int 0x80; ") + touch))
        assert runtime.statistics()["memory"] == 0
    assert (result.reason, result.returncode) == (Reason.MEMORY_LIMIT, -9)
    assert result.limits_hit == {"memory"}


async def test_a_limit_too_small_to_start(guest: GuestPaths) -> None:
    for memory in (1, 4096, 65536):
        with pytest.raises(HostRefusedError):
            await VM(limits=Limits(memory=memory)).run_elf(guest("hello"))


async def test_unknown_system_calls_are_counted() -> None:
    result = await VM().run_bytes(exit_after("mov eax, 999; int 0x80; mov eax, 999; int 0x80; neg eax; "))
    assert result.returncode == 38  # ENOSYS
    assert result.unknown_syscalls == {999: 2}


async def test_arguments_that_are_none(guest: GuestPaths) -> None:
    for bad in (
        {"clock": "fast"},
        {"engine": "steam"},
        {"quantum": 0},
        {"weight": 0},
        {"cpu": "z80"},
        {"env": {"A=B": "x"}},
    ):
        with pytest.raises(ValueError):
            VM(**bad)
    with pytest.raises(ValueError):
        Limits(instructions=0)
    with pytest.raises(ValueError):
        await VM().run_elf(guest("hello"), "a\0b")
    with pytest.raises(TypeError):
        await VM().run_elf(guest("hello"), 5)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        await VM(root=5).run("x")  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        await VM(root={"..": b""}).run("x")
    with pytest.raises(TypeError):
        await VM().run()


async def test_process_is_anyios(guest: GuestPaths) -> None:
    async with VM().open_elf(guest("hello")) as process:
        assert isinstance(process, anyio.abc.Process)
        assert isinstance(process, Process)
        assert isinstance(process.stdout, anyio.abc.ByteReceiveStream)
        assert process.stdin is None
        chunks = [chunk async for chunk in process.stdout]
    assert b"".join(chunks) == b"Hello, world!\n"


@pytest.mark.parametrize("engine", ["native", "python"])
async def test_who_yields_lets_others_of_its_machine_come_first(engine: str) -> None:
    path = glibc_path("yields")
    if path is None:
        pytest.skip("gcc -m32 is not there")
    with anyio.fail_after(60):
        result = await VM(engine=engine, quantum=10_000_000).run_elf(path)
    assert result.stdout is not None
    assert int(result.stdout) <= 3
