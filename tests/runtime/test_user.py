"""Who programs run as, and what the machine is called."""

from __future__ import annotations

from typing import Any

import pytest

from aiopyvm import VM
from aiopyvm.runtime.user import Ids, parse_user

PASSWD = b"root:x:0:0:root:/root:/bin/sh\nbroken:x:\njudge:x:37:73:a judge:/:/bin/sh\n"
pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("user", "ids"),
    [(0, (0, 0)), ((5, 6), (5, 6)), ("7", (7, 7)), ("7:8", (7, 8)), ("judge", (None, None, "judge"))],
)
def test_ways_to_say_who(user: Any, ids: tuple[Any, ...]) -> None:
    assert parse_user(user) == Ids(*ids)


@pytest.mark.parametrize("user", [None, True, 1.5, (1,), (1, 2, 3), ("1", "2")])
def test_what_is_nobody(user: Any) -> None:
    with pytest.raises(TypeError, match="user is an int"):
        VM(user=user)


@pytest.mark.parametrize("user", ["", "a:b", "1:x", ":1", -1, 1 << 32, (0, -1)])
def test_who_cannot_be(user: Any) -> None:
    with pytest.raises(ValueError, match="user"):
        VM(user=user)


async def whoami(vm: VM) -> str:
    return (await vm.run("/bin/sh", "-c", "id -u; id -g; stat -c %u:%g /bin/sh; hostname")).text.replace("\n", " ")


async def test_programs_run_as_the_user(busybox_files: dict[str, Any]) -> None:
    assert await whoami(VM(root=busybox_files)) == "1000 1000 1000:1000 aiopyvm "
    assert await whoami(VM(root=busybox_files, user=0, hostname="box")) == "0 0 0:0 box "
    assert await whoami(VM(root=busybox_files, user=(3, 4))) == "3 4 3:4 aiopyvm "
    assert await whoami(VM(root=busybox_files, user="judge")) == "37 73 37:73 aiopyvm "


async def test_a_name_must_be_known(busybox_files: dict[str, Any]) -> None:
    for name in ("broken", "nobody-knows"):
        with pytest.raises(ValueError, match=f"no user '{name}' in the guest's /etc/passwd"):
            await VM(root=busybox_files, user=name).run("/bin/sh")
    with pytest.raises(ValueError, match="/etc/passwd cannot be read"):
        await VM(user="judge").run("/bin/sh")


@pytest.fixture
def busybox_files(busybox: Any) -> dict[str, Any]:
    """A shell, and who there is."""
    program = busybox.read_bytes()
    names = ("sh", "id", "stat", "hostname")
    return {"bin": dict.fromkeys(names, program), "etc": {"passwd": PASSWD}}


def test_a_hostname_has_64_bytes() -> None:
    VM(hostname="x" * 64)
    with pytest.raises(ValueError, match="hostname has at most 64 bytes, not 65"):
        VM(hostname="x" * 65)
