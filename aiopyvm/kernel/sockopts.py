"""The options of SOL_SOCKET (socket(7), "Socket options"), with the checks and the order of errors of Linux."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from aiopyvm.abi import socket as abi
from aiopyvm.abi.errno import EACCES, EDOM, EINVAL, ENOPROTOOPT, EOPNOTSUPP, EPERM, Errno
from aiopyvm.abi.layout import codec_of
from aiopyvm.abi.socket import SOL_SOCKET, Linger, Ucred
from aiopyvm.abi.time import NS

if TYPE_CHECKING:
    from aiopyvm.kernel.socket import Socket
    from aiopyvm.kernel.thread import Thread

BOOLEANS: Final = frozenset(
    {
        abi.SO_REUSEADDR,
        abi.SO_DONTROUTE,
        abi.SO_BROADCAST,
        abi.SO_KEEPALIVE,
        abi.SO_OOBINLINE,
        abi.SO_NO_CHECK,
        abi.SO_REUSEPORT,
        abi.SO_PASSCRED,
    }
)
_WORDS: Final = frozenset({*BOOLEANS, abi.SO_SNDBUF, abi.SO_RCVBUF, abi.SO_PRIORITY, abi.SO_MARK})
_TIMEVAL: Final = {
    abi.SO_RCVTIMEO: "<ii",
    abi.SO_SNDTIMEO: "<ii",
    abi.SO_RCVTIMEO_NEW: "<qq",
    abi.SO_SNDTIMEO_NEW: "<qq",
}
_RECEIVING: Final = (abi.SO_RCVTIMEO, abi.SO_RCVTIMEO_NEW)
_MAX_SECONDS: Final = (1 << 31) // 1000 - 1  # longer is for ever


def get_option(t: Thread, socket: Socket, level: int, option: int, size: int) -> bytes:
    """Return an option's value, as long as it is; getsockopt(2) cuts it off. Raises Errno(ENOPROTOOPT)."""
    if level == SOL_SOCKET:
        value = _get(socket, option)
        if value is not None:
            return value
    found = socket.get_option(t, level, option, size)
    if found is None:
        raise Errno(ENOPROTOOPT)
    return found


def _get(socket: Socket, option: int) -> bytes | None:
    match option:
        case abi.SO_TYPE:
            return _word(socket.kind)
        case abi.SO_DOMAIN:
            return _word(socket.domain)
        case abi.SO_PROTOCOL:
            return _word(socket.protocol)
        case abi.SO_ERROR:
            return _word(socket.take_error())
        case abi.SO_ACCEPTCONN:
            return _word(int(socket.listening))
        case abi.SO_RCVLOWAT:
            return _word(socket.options[option] or 1)
        case abi.SO_SNDLOWAT:
            return _word(1)
        case abi.SO_DEBUG:
            return _word(0)
        case abi.SO_LINGER:
            seconds = socket.options.linger
            return codec_of(Linger).pack(Linger(seconds is not None, seconds or 0))
        case abi.SO_PEERCRED:
            return codec_of(Ucred).pack(socket.peer_credentials())
        case abi.SO_PEERNAME:
            return socket.peer_address()
    if option in _TIMEVAL:
        return _timeval(socket, option)
    return _word(socket.options[option]) if option in _WORDS else None


def _timeval(socket: Socket, option: int) -> bytes:
    options = socket.options
    ns = options.receive_timeout if option in _RECEIVING else options.send_timeout
    return struct.pack(_TIMEVAL[option], *divmod((ns or 0) // 1000, 10**6))


def set_option(t: Thread, socket: Socket, level: int, option: int, data: bytes) -> None:
    """Set an option from what setsockopt(2) was given, at most 256 bytes of it. Raises Errno."""
    if level == SOL_SOCKET and _set(t, socket, option, data):
        return
    if not socket.set_option(t, level, option, data):
        raise Errno(ENOPROTOOPT)


def _set(t: Thread, socket: Socket, option: int, data: bytes) -> bool:
    """Set an option of SOL_SOCKET; False where that is none."""
    if option == abi.SO_BINDTODEVICE:
        raise Errno(EPERM)
    value = word_of(data)
    options = socket.options
    if option == abi.SO_REUSEPORT and socket.domain == abi.AF_UNIX:
        raise Errno(EOPNOTSUPP)
    if option in BOOLEANS:
        options.values[option] = int(value != 0)
    elif option == abi.SO_LINGER:
        _set_linger(socket, data)
    elif option in _TIMEVAL:
        _set_timeout(socket, option, data)
    elif option in (abi.SO_SNDBUF, abi.SO_RCVBUF, abi.SO_SNDBUFFORCE, abi.SO_RCVBUFFORCE):
        _set_buffer(t, socket, option, value)
    elif option == abi.SO_RCVLOWAT:
        options.values[option] = 0x7FFFFFFF if value < 0 else value
    elif option in (abi.SO_PRIORITY, abi.SO_MARK, abi.SO_DEBUG):
        _set_privileged(t, socket, option, value)
    elif option in (abi.SO_TYPE, abi.SO_PROTOCOL, abi.SO_DOMAIN, abi.SO_ERROR, abi.SO_ACCEPTCONN, abi.SO_SNDLOWAT):
        raise Errno(ENOPROTOOPT)
    else:
        return False
    return True


def _set_linger(socket: Socket, data: bytes) -> None:
    codec = codec_of(Linger)
    if len(data) < codec.size:
        raise Errno(EINVAL)
    linger = codec.unpack(data)
    socket.options.linger = min(linger.seconds & 0xFFFFFFFF, _MAX_SECONDS) if linger.onoff else None


def _set_timeout(socket: Socket, option: int, data: bytes) -> None:
    fmt = _TIMEVAL[option]
    if len(data) < struct.calcsize(fmt):
        raise Errno(EINVAL)
    seconds, micros = struct.unpack_from(fmt, data)
    if not 0 <= micros < 10**6:
        raise Errno(EDOM)
    ns: int | None = seconds * NS + micros * 1000
    if seconds < 0:
        ns = 0  # as Linux has it: at once
    elif not ns or seconds > _MAX_SECONDS:
        ns = None
    if option in _RECEIVING:
        socket.options.receive_timeout = ns
    else:
        socket.options.send_timeout = ns


def _set_buffer(t: Thread, socket: Socket, option: int, value: int) -> None:
    if option in (abi.SO_SNDBUFFORCE, abi.SO_RCVBUFFORCE):
        need_administrator(t)
    sending = option in (abi.SO_SNDBUF, abi.SO_SNDBUFFORCE)
    least = abi.MIN_SEND_BUFFER if sending else abi.MIN_RECEIVE_BUFFER
    wanted = min(value & 0xFFFFFFFF, abi.BUFFER_SIZE)
    socket.options.values[abi.SO_SNDBUF if sending else abi.SO_RCVBUF] = max(2 * wanted, least)
    if sending:
        socket.options.fixed_send_buffer = True
        socket.write_queue.wake()


def _set_privileged(t: Thread, socket: Socket, option: int, value: int) -> None:
    if option != abi.SO_PRIORITY or not 0 <= value <= 6:
        need_administrator(t, EACCES if option == abi.SO_DEBUG and value else EPERM)
    socket.options.values[option] = value


def need_administrator(t: Thread, error: int = EPERM) -> None:
    """Raise Errno(`error`) unless the caller is the superuser."""
    if t.credentials.euid:
        raise Errno(error)


def word_of(data: bytes) -> int:
    """Return an int option's value. Raises Errno(EINVAL) where it is too short."""
    if len(data) < 4:
        raise Errno(EINVAL)
    return int.from_bytes(data[:4], "little", signed=True)


def _word(value: int) -> bytes:
    return struct.pack("<i", value)
