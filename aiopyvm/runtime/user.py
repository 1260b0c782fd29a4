"""Who a guest's programs run as, and what its machine is called: `VM(user=..., hostname=...)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from aiopyvm.abi.errno import Errno
from aiopyvm.runtime.program import to_bytes

if TYPE_CHECKING:
    from aiopyvm.kernel.vfs import Vfs

User = int | str | tuple[int, int]
MAX_ID: Final = 0xFFFFFFFE  # (uid_t) -1 is none (credentials(7))
MAX_HOSTNAME: Final = 64  # bytes (uname(2), __NEW_UTS_LEN)
MOST_PASSWD: Final = 1 << 20  # bytes of /etc/passwd that are read


class Ids(NamedTuple):
    """User and group id; None: they are those of `name` in the guest's /etc/passwd."""

    uid: int | None
    gid: int | None
    name: str = ""


DEFAULT_IDS: Final = Ids(1000, 1000)


def parse_user(user: User) -> Ids:
    """Read `user`: an id for user and group, (uid, gid), "uid", "uid:gid" or a name. Raises TypeError, ValueError."""
    if isinstance(user, str):
        uid, colon, gid = user.partition(":")
        if not uid.isdecimal():
            if not user or colon or "\0" in user:
                raise ValueError(f"user is a name, 'uid' or 'uid:gid', not {user!r}")
            return Ids(None, None, user)
        if colon and not gid.isdecimal():
            raise ValueError(f"user is a name, 'uid' or 'uid:gid', not {user!r}")
        user = int(uid), int(gid if colon else uid)
    ids = user if isinstance(user, tuple) else (user, user)
    if len(ids) != 2 or any(isinstance(n, bool) or not isinstance(n, int) for n in ids):
        raise TypeError(f"user is an int, (uid, gid) or a str, not {user!r}")
    if not all(0 <= n <= MAX_ID for n in ids):
        raise ValueError(f"user and group ids are 0 to {MAX_ID}, not {user!r}")
    return Ids(*ids)


def parse_hostname(name: str | bytes) -> bytes:
    """What uname(2) calls the machine. Raises TypeError, ValueError."""
    hostname = to_bytes(name, "hostname")
    if len(hostname) > MAX_HOSTNAME:
        raise ValueError(f"hostname has at most {MAX_HOSTNAME} bytes, not {len(hostname)}")
    return hostname


def look_up(name: str, vfs: Vfs) -> Ids:
    """The ids of `name` in /etc/passwd of `vfs`. Raises ValueError where it is not there."""
    try:
        file = vfs.open(vfs.administrator(), b"/etc/passwd", 0).hold()
        try:
            content = file.read(MOST_PASSWD)
        finally:
            file.release()
    except Errno as error:
        raise ValueError(f"no user {name!r}: the guest's /etc/passwd cannot be read ({error})") from None
    for line in content.decode(errors="surrogateescape").splitlines():
        fields = line.split(":")
        if fields[0] == name and len(fields) >= 4 and fields[2].isdecimal() and fields[3].isdecimal():
            return Ids(int(fields[2]), int(fields[3]), name)
    raise ValueError(f"no user {name!r} in the guest's /etc/passwd")
