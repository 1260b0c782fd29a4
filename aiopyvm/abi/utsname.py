"""struct new_utsname and its ancestors (uname(2))."""

from typing import Final, NamedTuple

from aiopyvm.abi.layout import layout

SYSNAME: Final = b"Linux"
RELEASE: Final = b"5.15.0"  # what programs test is whether a call exists; they ask the calls
VERSION: Final = b"#1 SMP aiopyvm"


@layout("<65s65s65s65s65s65s")
class Utsname(NamedTuple):
    """struct new_utsname."""

    sysname: bytes
    nodename: bytes
    release: bytes
    version: bytes
    machine: bytes
    domainname: bytes


@layout("<65s65s65s65s65s")
class OldUtsname(NamedTuple):
    """struct old_utsname."""

    sysname: bytes
    nodename: bytes
    release: bytes
    version: bytes
    machine: bytes


@layout("<8sx8sx8sx8sx8sx")
class OldoldUtsname(NamedTuple):
    """struct oldold_utsname: nine bytes each, the last a NUL."""

    sysname: bytes
    nodename: bytes
    release: bytes
    version: bytes
    machine: bytes
