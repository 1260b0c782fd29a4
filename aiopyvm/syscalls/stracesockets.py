"""What strace shows of sockets: addresses, messages and what goes along with them, options.

Lengths that the kernel changes are shown with what they were ([128 => 16]); that is kept in the call's record as it
begins. Only as much is shown as was given or told.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Callable
from typing import Any, Final

from aiopyvm.abi import errno, inet
from aiopyvm.abi import socket as abi
from aiopyvm.abi.layout import codec_of
from aiopyvm.abi.socket import CMSG_ALIGN, CMSG_HEADER, MSGHDR_SIZE, Cmsghdr, Msghdr
from aiopyvm.kernel.thread import Thread
from aiopyvm.kernel.wait import Call
from aiopyvm.mem.faults import MemoryFault
from aiopyvm.syscalls.stracetext import SHOWN_BYTES, SHOWN_ITEMS, quoted

Texts = list[str]
_CONTROL_SHOWN: Final = 1024  # bytes of control messages, at most
_SIZE: Final = "strace size"  # in a call's record: the length that it was given


def _names(module: Any, prefix: str) -> dict[int, str]:
    found = vars(module).items()
    return {value: name for name, value in found if name.startswith(prefix) and isinstance(value, int)}


_OPTIONS: Final[dict[int, dict[int, str]]] = {
    abi.SOL_SOCKET: {
        **_names(abi, "SO_"), abi.SO_RCVTIMEO: "SO_RCVTIMEO_OLD", abi.SO_SNDTIMEO: "SO_SNDTIMEO_OLD",
    },
    abi.SOL_IP: _names(inet, "IP_"),
    abi.SOL_IPV6: _names(inet, "IPV6_"),
    abi.SOL_TCP: _names(inet, "TCP_"),
}  # fmt: skip
_PREFIXES: Final = {abi.SOL_SOCKET: "SO", abi.SOL_IP: "IP", abi.SOL_IPV6: "IPV6", abi.SOL_TCP: "TCP"}
_PROTOCOLS: Final = _names(inet, "IPPROTO_")
_HOW: Final = {abi.SHUT_RD: "SHUT_RD", abi.SHUT_WR: "SHUT_WR", abi.SHUT_RDWR: "SHUT_RDWR"}
_INTERFACES: Final = {1: "lo", 2: "eth0"}
_SCM: Final = {abi.SCM_RIGHTS: "SCM_RIGHTS", abi.SCM_CREDENTIALS: "SCM_CREDENTIALS"}


def _pointer(address: int) -> str:
    return hex(address) if address else "NULL"


def _one_of(names: dict[int, str], value: int, prefix: str) -> str:
    return names.get(value) or f"{value & 0xFFFFFFFF:#x} /* {prefix}_??? */"


# --- addresses --------------------------------------------------------------------------------------------------------


def address_text(data: bytes) -> str:
    """Show a socket address of at least two bytes."""
    family = int.from_bytes(data[:2], "little")
    fields = [f"sa_family={_one_of(abi.FAMILIES, family, 'AF')}"]
    form, least = _FAMILIES.get(family, (None, 0))
    if form is not None and len(data) >= least:
        fields += form(data)
    elif len(data) > 2:
        fields.append(f"sa_data={quoted(data[2:], limit=abi.ADDRESS_MAX)}")
    return f"{{{', '.join(fields)}}}"


def _inet_text(data: bytes) -> Texts:
    (port,) = struct.unpack_from(">H", data, 2)
    return [f"sin_port=htons({port})", f'sin_addr=inet_addr("{ipaddress.IPv4Address(data[4:8])}")']


def _inet6_text(data: bytes) -> Texts:
    port, flow = struct.unpack_from(">HI", data, 2)
    fields = [f"sin6_port=htons({port})", f"sin6_flowinfo=htonl({flow})"]
    fields.append(f'inet_pton(AF_INET6, "{_six(data[8:24])}", &sin6_addr)')
    return [*fields, f"sin6_scope_id={int.from_bytes(data[24:28], 'little')}"] if len(data) >= 28 else fields


def _six(ip: bytes) -> str:
    if inet.is_mapped(ip):
        return f"::ffff:{ipaddress.IPv4Address(ip[12:])}"
    return str(ipaddress.IPv6Address(ip))


def _unix_text(data: bytes) -> Texts:
    path = data[2 : 2 + abi.UNIX_PATH_MAX]
    if path[0]:
        return [f"sun_path={quoted(path.partition(bytes(1))[0], limit=abi.UNIX_PATH_MAX)}"]
    return [f"sun_path=@{quoted(path[1:], limit=abi.UNIX_PATH_MAX)}"]


def _netlink_text(data: bytes) -> Texts:
    port, groups = struct.unpack_from("<II", data, 4)
    return [f"nl_pid={port}", f"nl_groups={groups:08x}"]


_FAMILIES: Final[dict[int, tuple[Callable[[bytes], Texts], int]]] = {
    abi.AF_INET: (_inet_text, 16), abi.AF_INET6: (_inet6_text, 24), abi.AF_UNIX: (_unix_text, 3),
    abi.AF_NETLINK: (_netlink_text, 12),
}  # fmt: skip


def _address_at(t: Thread, address: int, length: int) -> str:
    if not address or not 2 <= length <= 0x7FFFFFFF:
        return _pointer(address)
    try:
        return address_text(t.memory.read(address, min(length, abi.ADDRESS_MAX)))
    except MemoryFault:
        return _pointer(address)


def _given(at: int) -> Callable[[Thread, Call], dict[int, str]]:
    """The form of a call that takes an address and its length, from argument `at` on."""
    return lambda t, call: {at: _address_at(t, call.args[at], call.args[at + 1])}


def _keep_size(at: int) -> Callable[[Thread, Call], dict[int, str]]:
    """Keep the length that argument `at` points to."""

    def keep(t: Thread, call: Call) -> dict[int, str]:
        if call.args[at]:
            call.state[_SIZE] = t.memory.load(call.args[at], 4)
        return {}

    return keep


def _told(at: int) -> Callable[[Thread, Call, Texts, int], Texts]:
    """The form of a call that tells an address and its length, from argument `at` on."""

    def arrange(t: Thread, call: Call, shown: Texts, result: int) -> Texts:
        address, length = call.args[at : at + 2]
        was = call.state.get(_SIZE)
        if not address or was is None:
            return [*shown[:at], _pointer(address), _pointer(length), *shown[at + 2 :]]
        size = t.memory.load(length, 4)
        text = _address_at(t, address, min(was, size)) if result >= 0 else hex(address)
        return [*shown[:at], text, _size_text(was, size if result >= 0 else was), *shown[at + 2 :]]

    return arrange


def _size_text(was: int, size: int) -> str:
    was, size = ((each ^ 0x80000000) - 0x80000000 for each in (was, size))
    return f"[{was}]" if was == size else f"[{was} => {size}]"


def _accept(t: Thread, call: Call, shown: Texts, result: int) -> Texts:
    bits = ((abi.SOCK_CLOEXEC, "SOCK_CLOEXEC"), (abi.SOCK_NONBLOCK, "SOCK_NONBLOCK"))
    if call.args[3] and not call.args[3] & ~(abi.SOCK_CLOEXEC | abi.SOCK_NONBLOCK):
        shown[3] = "|".join(name for bit, name in bits if call.args[3] & bit)
    return _told(1)(t, call, shown, result)


# --- messages ---------------------------------------------------------------------------------------------------------


def _send_message(t: Thread, call: Call) -> dict[int, str]:
    return {1: _message_text(t, call.args[1], None, 1 << 31)}


def _keep_name_size(t: Thread, call: Call) -> dict[int, str]:
    if call.args[1]:
        call.state[_SIZE] = t.memory.load(call.args[1] + 4, 4)
    return {}


def _receive_message(t: Thread, call: Call, shown: Texts, result: int) -> Texts:
    at, was = call.args[1], call.state.get(_SIZE)
    if was is not None and result < 0:
        shown[1] = f"{{msg_namelen={was}}}"
    elif was is not None:
        shown[1] = _message_text(t, at, was, result)
    return shown


def _message_text(t: Thread, at: int, was: int | None, moved: int) -> str:
    """Show a struct msghdr of which `moved` bytes are there; `was`: the length of its name as the call began."""
    if not at:
        return "NULL"
    header = codec_of(Msghdr).unpack(t.memory.read(at, MSGHDR_SIZE))
    known = header.namelen if was is None else min(was, header.namelen)
    length = str(header.namelen) if was in (None, header.namelen) else f"{was} => {header.namelen}"
    fields = [f"msg_name={_address_at(t, header.name, known)}", f"msg_namelen={length}"]
    fields += [f"msg_iov={_pieces_text(t, header, moved)}", f"msg_iovlen={header.iovlen}"]
    if header.controllen:
        fields.append(f"msg_control={_control_text(t, header)}")
    fields.append(f"msg_controllen={header.controllen}")
    flags = [name for bit, name in sorted(abi.MESSAGE_FLAGS.items()) if header.flags & bit]
    return f"{{{', '.join(fields)}, msg_flags={'|'.join(flags) or '0'}}}"


def _pieces_text(t: Thread, header: Msghdr, left: int) -> str:
    if not header.iov:
        return "NULL"
    shown: Texts = []
    for n in range(min(header.iovlen, SHOWN_ITEMS)):
        try:
            base, size = struct.unpack("<II", t.memory.read(header.iov + 8 * n, 8))
        except MemoryFault:
            return _pointer(header.iov) if not n else f"[{', '.join(shown)}, ...]"
        there = min(size, left)
        left -= there
        shown.append(f"{{iov_base={_bytes_at(t, base, there)}, iov_len={size}}}")
    more = [] if header.iovlen <= SHOWN_ITEMS else ["..."]
    return f"[{', '.join(shown + more)}]"


def _bytes_at(t: Thread, address: int, size: int) -> str:
    try:
        return quoted(t.memory.read(address, min(size, SHOWN_BYTES)), cut=size > SHOWN_BYTES)
    except MemoryFault:
        return _pointer(address)


def _control_text(t: Thread, header: Msghdr) -> str:
    if header.controllen < CMSG_HEADER:
        return _pointer(header.control)
    try:
        data = t.memory.read(header.control, min(header.controllen, _CONTROL_SHOWN))
    except MemoryFault:
        return _pointer(header.control)
    shown: Texts = []
    at = 0
    while at + CMSG_HEADER <= len(data):
        each = codec_of(Cmsghdr).unpack(data[at : at + CMSG_HEADER])
        shown.append(_ancillary_text(each, data[at + CMSG_HEADER : at + max(each.len, CMSG_HEADER)]))
        if each.len < CMSG_HEADER:
            break
        at += each.len + -each.len % CMSG_ALIGN
    return f"[{', '.join(shown)}]"


def _ancillary_text(each: Cmsghdr, data: bytes) -> str:
    names = _SCM if each.level == abi.SOL_SOCKET else _OPTIONS.get(each.level, {})
    kind = _one_of(names, each.type, "SCM" if each.level == abi.SOL_SOCKET else _PREFIXES.get(each.level, "SCM"))
    level = abi.LEVELS.get(each.level) or f"{each.level & 0xFFFFFFFF:#x} /* SOL_??? */"
    fields = f"cmsg_len={each.len}, cmsg_level={level}, cmsg_type={kind}"
    return f"{{{fields}, cmsg_data={_ancillary_data(each, data)}}}" if data else f"{{{fields}}}"


def _ancillary_data(each: Cmsghdr, data: bytes) -> str:
    what = (each.level, each.type)
    if what == (abi.SOL_SOCKET, abi.SCM_RIGHTS):
        return str([fd for (fd,) in struct.iter_unpack("<i", data[: len(data) & ~3])])
    if what == (abi.SOL_SOCKET, abi.SCM_CREDENTIALS) and len(data) >= 12:
        return "{{pid={}, uid={}, gid={}}}".format(*struct.unpack_from("<III", data))
    if what == (abi.SOL_IP, inet.IP_PKTINFO) and len(data) >= 12:
        number = int.from_bytes(data[:4], "little")
        index = f'if_nametoindex("{_INTERFACES[number]}")' if number in _INTERFACES else number
        spec, whole = (ipaddress.IPv4Address(data[n : n + 4]) for n in (4, 8))
        return f'{{ipi_ifindex={index}, ipi_spec_dst=inet_addr("{spec}"), ipi_addr=inet_addr("{whole}")}}'
    if what == (abi.SOL_IP, inet.IP_TTL) and len(data) == 4:
        return f"[{int.from_bytes(data, 'little')}]"
    return quoted(data)


# --- options ----------------------------------------------------------------------------------------------------------


def _option_name(call: Call) -> str:
    level, option = call.args[1:3]
    return _one_of(_OPTIONS.get(level, {}), option, _PREFIXES.get(level, "SO"))


def _set_option(t: Thread, call: Call) -> dict[int, str]:
    address, size = call.args[3:5]
    text = _pointer(address)
    if address and 4 <= size <= 0x7FFFFFFF:
        text = _value_text(t, call, address, size)
    return {2: _option_name(call), 3: text}


def _get_option(t: Thread, call: Call, shown: Texts, result: int) -> Texts:
    shown[2] = _option_name(call)
    was = call.state.get(_SIZE)
    if was is None:
        return shown
    size = t.memory.load(call.args[4], 4)
    if result >= 0 and call.args[3]:
        shown[3] = _value_text(t, call, call.args[3], size)
    shown[4] = _size_text(was, size)
    return shown


def _value_text(t: Thread, call: Call, address: int, size: int) -> str:
    what = tuple(call.args[1:3])
    try:
        data = t.memory.read(address, min(size, SHOWN_BYTES))
    except MemoryFault:
        return _pointer(address)
    if what == (abi.SOL_SOCKET, abi.SO_LINGER) and len(data) == 8:
        return "{{l_onoff={}, l_linger={}}}".format(*struct.unpack("<ii", data))
    if what == (abi.SOL_SOCKET, abi.SO_PEERCRED) and len(data) == 12:
        return "{{pid={}, uid={}, gid={}}}".format(*struct.unpack("<iii", data))
    if size != 4:
        return quoted(data, cut=size > SHOWN_BYTES)
    value = int.from_bytes(data, "little", signed=True)
    if what == (abi.SOL_SOCKET, abi.SO_ERROR):
        return f"[{errno.NAMES.get(value, value)}]" if value else "[0]"
    return f"[{value}]"


# --- the rest ---------------------------------------------------------------------------------------------------------


def _socket(t: Thread, call: Call) -> dict[int, str]:
    domain, _, protocol = call.args[:3]
    if domain == abi.AF_NETLINK and not protocol:
        return {2: "NETLINK_ROUTE"}
    if domain in (abi.AF_INET, abi.AF_INET6):
        return {2: _one_of(_PROTOCOLS, protocol, "IPPROTO")}
    return {}


def _shutdown(t: Thread, call: Call) -> dict[int, str]:
    return {1: _one_of(_HOW, call.args[1], "SHUT")}


def _pair(t: Thread, call: Call, shown: Texts, result: int) -> Texts:
    if result >= 0:
        shown[3] = str(list(struct.unpack("<ii", t.memory.read(call.args[3], 8))))
    return shown


BEFORE: Final[dict[str, Callable[[Thread, Call], dict[int, str]]]] = {
    "socket": _socket, "bind": _given(1), "connect": _given(1), "sendto": _given(4), "getsockname": _keep_size(2),
    "getpeername": _keep_size(2), "accept4": _keep_size(2), "recvfrom": _keep_size(5), "sendmsg": _send_message,
    "recvmsg": _keep_name_size, "setsockopt": _set_option, "getsockopt": _keep_size(4), "shutdown": _shutdown,
}  # fmt: skip
AFTER: Final[dict[str, Callable[[Thread, Call, Texts, int], Texts]]] = {
    "getsockname": _told(1), "getpeername": _told(1), "accept4": _accept, "recvfrom": _told(4),
    "recvmsg": _receive_message, "getsockopt": _get_option, "socketpair": _pair,
}  # fmt: skip
