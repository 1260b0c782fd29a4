"""Looking at what runs inside a guest: processes, what they wait for, open files."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiopyvm import PIPE, VM

pytestmark = pytest.mark.anyio
SCRIPT = "exec 5</etc/motd; (exec 5<&-; exec sleep 1000) & cat | tr a b; echo never"


@pytest.fixture
def vm(busybox: Path) -> VM:
    """A machine with a shell."""
    program = busybox.read_bytes()
    return VM(root={"bin": dict.fromkeys(("sh", "sleep", "cat", "tr"), program), "etc": {"motd": b"hi"}})


async def test_processes_with_what_they_wait_for_and_their_files(vm: VM) -> None:
    assert vm.processes() == []
    async with vm.open("/bin/sh", "-c", SCRIPT, stdin=PIPE) as p:
        assert await p.ask(b"") == b""
        found = {(" ".join(process.arguments[:2])): process for process in vm.processes()}
        assert list(found) == ["/bin/sh -c", "sleep 1000", "cat", "tr a"]
        assert p.process_table() == vm.processes()
        shell, sleep, cat, tr = found.values()
        assert (shell.pid, shell.parent, sleep.parent, cat.group, shell.uid) == (1, 0, 1, 1, 1000)
        assert {process.state for process in found.values()} == {"sleeping"}
        assert "a child to change state" in shell.threads[0].waits_for
        assert "nanosleep" in sleep.threads[0].waits_for
        assert cat.threads[0].waits_for.startswith("read: ")
        assert tr.threads[0].waits_for.startswith("read: ")
        assert shell.files[5] == "/etc/motd"
        assert 5 not in sleep.files
        assert cat.files[1] == tr.files[0]
        assert shell.memory > 0
        assert shell.cpu_time > 0
        p.kill()
    assert vm.processes() == p.process_table() == []


async def test_a_process_that_nobody_has_waited_for(vm: VM) -> None:
    async with vm.open("/bin/sh", "-c", "(exit 3) & exec sh -c 'read line'", stdin=PIPE) as p:
        await p.ask(b"")
        _, zombie = p.process_table()
        assert (zombie.state, zombie.files, zombie.memory, zombie.threads) == ("zombie", {}, 0, ())
        p.kill()
