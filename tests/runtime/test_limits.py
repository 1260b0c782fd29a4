"""A `Runtime`'s limits bound the sum over its machines, beside each guest's own."""

from __future__ import annotations

import errno
import gc
from contextlib import AsyncExitStack

import pytest

from aiopyvm import PIPE, VM, HostRefusedError, Limits, Process, Runtime
from tests.runtime.machine_code import call, program

pytestmark = pytest.mark.both_loops

READY = call("write", 1, 0x900, 1) + call("read", 0, 0x800, 1)
COUNT = "xor esi, esi; again: {}; inc esi; jmp again; full: mov [0x900], al; " + READY + call("exit")
FORKS = "mov eax, 2; int 0x80; test eax, eax; jz child; js full"
PIPES = "mov eax, 42; mov ebx, 0x800; int 0x80; test eax, eax; js full"
CHILD = "child: mov eax, 29; int 0x80; jmp child; "


def taker(what: str) -> bytes:
    """A program that takes until it is refused, writes -errno as a byte, and then keeps what it has until it may
    read."""
    text = COUNT.format(what).replace("mov ebx, 0; mov ecx, 0; mov edx, 0; int 0x80; ", "mov ebx, esi; int 0x80; ")
    return program(text + CHILD)


async def take_turns(vms: list[VM], code: bytes) -> tuple[list[int], list[int]]:
    """Let a program in each machine take what it gets, one after another; the errno and the count of each."""
    processes: list[Process] = []
    refusals = []
    async with AsyncExitStack() as stack:
        for vm in vms:
            process = await stack.enter_async_context(vm.open_bytes(code, stdin=PIPE))
            assert process.stdout is not None
            refusals.append(256 - (await process.stdout.receive_exactly(1))[0])
            processes.append(process)
        for process in processes:
            assert process.stdin is not None
            await process.stdin.send(b"x")
    return refusals, [process.result.returncode for process in processes]


async def test_processes() -> None:
    async with Runtime(limits=Limits(processes=12)) as runtime:
        vms = [runtime.vm(limits=Limits(processes=own)) for own in (4, 100)]
        refusals, counts = await take_turns(vms, taker(FORKS))
        assert refusals == [errno.EAGAIN] * 2
        assert counts == [3, 7]  # children; each machine has its first process, too
        assert runtime.statistics()["processes"] == 0
        assert (await take_turns(vms[1:2], taker(FORKS)))[1] == [11]


async def test_open_files() -> None:
    async with Runtime(limits=Limits(open_files=21)) as runtime:
        vms = [runtime.vm(limits=Limits(open_files=own)) for own in (10, 100, 100)]
        refusals, counts = await take_turns(vms, taker(PIPES))
        assert refusals == [errno.EMFILE, errno.ENFILE, errno.ENFILE]
        assert counts == [3, 7, 0]  # pairs; 6 files, then 14, of 21
        assert runtime.statistics()["open_files"] == 0


async def test_what_is_duplicated_or_inherited_is_open_once() -> None:
    duplicate = call("pipe", 0x800) + "mov eax, 41; mov ebx, [0x800]; int 0x80; " + "mov eax, 2; int 0x80; "
    child = "test eax, eax; jnz parent; " + call("exit") + "parent: "
    close = "".join(f"mov eax, 6; mov ebx, {fd}; int 0x80; " for fd in (3, 4, 5))
    wait = call("waitpid", 0xFFFFFFFF, 0, 0)
    async with Runtime() as runtime:
        code = program(duplicate + child + READY + wait + READY + close + READY + call("exit"))
        async with runtime.vm().open_bytes(code, stdin=PIPE) as process:
            await process.ask()
            assert _used(runtime) == (2, 2)  # the child is a zombie
            await process.ask(b"x")
            assert _used(runtime) == (1, 2)
            await process.ask(b"x")
            assert _used(runtime) == (1, 0)


def _used(runtime: Runtime) -> tuple[int, int]:
    statistics = runtime.statistics()
    return statistics["processes"], statistics["open_files"]


async def test_one_more_guest_than_the_limit() -> None:
    async with Runtime(limits=Limits(processes=2)) as runtime:
        rest = program(call("read", 0, 0x800, 1) + call("exit", 3))
        async with runtime.vm().open_bytes(rest, stdin=PIPE), runtime.vm().open_bytes(rest, stdin=PIPE):
            for _ in range(2):
                with pytest.raises(HostRefusedError, match="processes") as caught:
                    await runtime.vm().run_bytes(rest)
                assert caught.value.errno == errno.EAGAIN
                assert runtime.statistics()["running"] == 2
            assert runtime.statistics()["processes"] == 2
        assert (await runtime.vm().run_bytes(rest)).returncode == 3
        del caught  # its traceback holds a machine
        gc.collect()
        assert runtime.statistics()["memory"] == 0


async def test_limits_that_were_not_named_are_each_guests_own() -> None:
    async with Runtime(limits=Limits(memory=64 << 20)) as runtime:
        vms = [runtime.vm(limits=Limits(processes=5, open_files=8)) for _ in range(2)]
        assert (await take_turns(vms, taker(FORKS)))[1] == [4, 4]
        assert (await take_turns(vms, taker(PIPES)))[1] == [2, 2]


MIB = 1 << 20


async def test_files_count_against_the_memory_of_the_runs_of_their_machine() -> None:
    vm = VM(limits=Limits(memory=8 * MIB))
    code = program(call("exit"))
    await vm.path("/kept").write_bytes(bytes(7 * MIB))
    with pytest.raises(OSError, match="No space left"):
        await vm.path("/more").write_bytes(bytes(2 * MIB))
    with pytest.raises(HostRefusedError):
        await vm.run_bytes(code)
    await vm.path("/more").unlink()
    assert (await vm.run_bytes(code)).returncode == 0
    small = Limits(memory=7 * MIB)
    with pytest.raises(HostRefusedError):
        await vm.run_bytes(code, limits=small)
    await vm.path("/kept").unlink()
    assert (await vm.run_bytes(code, limits=small)).returncode == 0


async def test_files_that_are_written_while_a_guest_runs_share_its_memory() -> None:
    vm = VM(limits=Limits(memory=4 * MIB))
    async with vm.open_bytes(program(READY + call("exit")), stdin=PIPE) as process:
        assert process.stdout is not None
        await process.stdout.receive_exactly(1)
        kept = vm.path("/all")
        with pytest.raises(OSError, match="No space left"):
            await kept.write_bytes(bytes(4 * MIB))
        size = (await kept.stat()).st_size
        await kept.unlink()
        assert process.stdin is not None
        await process.stdin.send(b"x")
    assert process.result.returncode == 0
    assert 3 * MIB < size < 4 * MIB - process.result.peak_memory + 2 * 4096


async def test_files_are_in_the_sum_of_a_runtime_until_their_machine_is_gone() -> None:
    async with Runtime(limits=Limits(memory=8 * MIB)) as runtime:
        vms = [runtime.vm(limits=Limits(memory=6 * MIB)) for _ in range(2)]
        await vms[0].path("/kept").write_bytes(bytes(5 * MIB))
        with pytest.raises(OSError, match="No space left"):
            await vms[1].path("/kept").write_bytes(bytes(4 * MIB))
        del vms[0]
        gc.collect()
        assert runtime.statistics()["memory"] < 4 * MIB  # what the other has, up to the limit
