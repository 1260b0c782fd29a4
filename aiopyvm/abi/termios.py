"""Requests of ioctl(2) that the guest kernel knows, and the kernel's termios and winsize layouts; data only."""

from __future__ import annotations

import struct
from typing import Final

TCGETS: Final = 0x5401
TCSETS: Final = 0x5402
TCSETSW: Final = 0x5403
TCSETSF: Final = 0x5404
TCGETA: Final = 0x5405
TCSETA: Final = 0x5406
TCSETAW: Final = 0x5407
TCSETAF: Final = 0x5408
TCSBRK: Final = 0x5409
TCXONC: Final = 0x540A
TCFLSH: Final = 0x540B
TIOCEXCL: Final = 0x540C
TIOCNXCL: Final = 0x540D
TIOCSCTTY: Final = 0x540E
TIOCGPGRP: Final = 0x540F
TIOCSPGRP: Final = 0x5410
TIOCOUTQ: Final = 0x5411
TIOCSTI: Final = 0x5412
TIOCGWINSZ: Final = 0x5413
TIOCSWINSZ: Final = 0x5414
FIONREAD: Final = 0x541B
TIOCPKT: Final = 0x5420
FIONBIO: Final = 0x5421
TIOCNOTTY: Final = 0x5422
TIOCSETD: Final = 0x5423
TIOCGETD: Final = 0x5424
TCSBRKP: Final = 0x5425
TIOCSBRK: Final = 0x5427
TIOCCBRK: Final = 0x5428
TIOCGSID: Final = 0x5429
TIOCVHANGUP: Final = 0x5437
TIOCGPTPEER: Final = 0x5441
FIONCLEX: Final = 0x5450
FIOCLEX: Final = 0x5451
FIOASYNC: Final = 0x5452
FIOQSIZE: Final = 0x5460
TCGETS2: Final = 0x802C542A
TCSETS2: Final = 0x402C542B
TCSETSW2: Final = 0x402C542C
TCSETSF2: Final = 0x402C542D
TIOCGPTN: Final = 0x80045430
TIOCSPTLCK: Final = 0x40045431
TIOCGDEV: Final = 0x80045432
TIOCSIG: Final = 0x40045436
TIOCGPKT: Final = 0x80045438
TIOCGPTLCK: Final = 0x80045439
TIOCGEXCL: Final = 0x80045440

NAMES: Final = {
    TCGETS: "TCGETS",
    TCSETS: "TCSETS",
    TCSETSW: "TCSETSW",
    TCSETSF: "TCSETSF",
    TCGETA: "TCGETA",
    TCSETA: "TCSETA",
    TCSETAW: "TCSETAW",
    TCSETAF: "TCSETAF",
    TCSBRK: "TCSBRK",
    TCXONC: "TCXONC",
    TCFLSH: "TCFLSH",
    TIOCEXCL: "TIOCEXCL",
    TIOCNXCL: "TIOCNXCL",
    TIOCSCTTY: "TIOCSCTTY",
    TIOCGPGRP: "TIOCGPGRP",
    TIOCSPGRP: "TIOCSPGRP",
    TIOCOUTQ: "TIOCOUTQ",
    TIOCSTI: "TIOCSTI",
    TIOCGWINSZ: "TIOCGWINSZ",
    TIOCSWINSZ: "TIOCSWINSZ",
    FIONREAD: "FIONREAD",
    TIOCPKT: "TIOCPKT",
    FIONBIO: "FIONBIO",
    TIOCNOTTY: "TIOCNOTTY",
    TIOCSETD: "TIOCSETD",
    TIOCGETD: "TIOCGETD",
    TCSBRKP: "TCSBRKP",
    TIOCSBRK: "TIOCSBRK",
    TIOCCBRK: "TIOCCBRK",
    TIOCGSID: "TIOCGSID",
    TIOCVHANGUP: "TIOCVHANGUP",
    TIOCGPTPEER: "TIOCGPTPEER",
    FIONCLEX: "FIONCLEX",
    FIOCLEX: "FIOCLEX",
    FIOASYNC: "FIOASYNC",
    FIOQSIZE: "FIOQSIZE",
    TCGETS2: "TCGETS2",
    TCSETS2: "TCSETS2",
    TCSETSW2: "TCSETSW2",
    TCSETSF2: "TCSETSF2",
    TIOCGPTN: "TIOCGPTN",
    TIOCSPTLCK: "TIOCSPTLCK",
    TIOCGDEV: "TIOCGDEV",
    TIOCSIG: "TIOCSIG",
    TIOCGPKT: "TIOCGPKT",
    TIOCGPTLCK: "TIOCGPTLCK",
    TIOCGEXCL: "TIOCGEXCL",
}

# struct termios of the kernel: c_iflag, c_oflag, c_cflag, c_lflag, c_line, c_cc[19] (asm-generic/termbits.h)
TERMIOS: Final = struct.Struct("<IIIIB19s")
TERMIOS2: Final = struct.Struct("<IIIIB19sII")  # with c_ispeed and c_ospeed
# struct termio: the same as 16 bits each, c_cc[8] (asm-generic/termios.h)
TERMIO: Final = struct.Struct("<HHHHB8sx")
WINSIZE: Final = struct.Struct("<HHHH")  # ws_row, ws_col, ws_xpixel, ws_ypixel

# termios(3), by the names of <termios.h>: c_iflag, c_oflag, c_lflag (asm-generic/termbits.h)
INPUT_FLAGS: Final = {
    "IGNBRK": 0o1,
    "BRKINT": 0o2,
    "IGNPAR": 0o4,
    "PARMRK": 0o10,
    "INPCK": 0o20,
    "ISTRIP": 0o40,
    "INLCR": 0o100,
    "IGNCR": 0o200,
    "ICRNL": 0o400,
    "IXON": 0o2000,
    "IXANY": 0o4000,
    "IXOFF": 0o10000,
    "IMAXBEL": 0o20000,
    "IUTF8": 0o40000,
}
OUTPUT_FLAGS: Final = {"OPOST": 0o1, "OLCUC": 0o2, "ONLCR": 0o4, "OCRNL": 0o10, "ONOCR": 0o20, "ONLRET": 0o40}
TABDLY: Final = 0o14000  # of c_oflag: all of it set is XTABS, tabs become spaces
IUCLC: Final = 0o1000
EXTPROC: Final = 0o200000
LOCAL_FLAGS: Final = {
    "ISIG": 0o1,
    "ICANON": 0o2,
    "ECHO": 0o10,
    "ECHOE": 0o20,
    "ECHOK": 0o40,
    "ECHONL": 0o100,
    "NOFLSH": 0o200,
    "TOSTOP": 0o400,
    "ECHOCTL": 0o1000,
    "ECHOPRT": 0o2000,
    "ECHOKE": 0o4000,
    "IEXTEN": 0o100000,
}
# c_cc: what stands where
CHARACTERS: Final = {
    "VINTR": 0,
    "VQUIT": 1,
    "VERASE": 2,
    "VKILL": 3,
    "VEOF": 4,
    "VTIME": 5,
    "VMIN": 6,
    "VSTART": 8,
    "VSTOP": 9,
    "VSUSP": 10,
    "VEOL": 11,
    "VREPRINT": 12,
    "VDISCARD": 13,
    "VWERASE": 14,
    "VLNEXT": 15,
    "VEOL2": 16,
}
B38400: Final = 0o17
CS8: Final = 0o60
CREAD: Final = 0o200
PARENB: Final = 0o400
CBAUD: Final = 0o10017
BAUD: Final = 38400  # what B38400 stands for

# tcflow(3), tcflush(3)
TCOOFF, TCOON, TCIOFF, TCION = 0, 1, 2, 3
TCIFLUSH, TCOFLUSH, TCIOFLUSH = 0, 1, 2

# What the first byte of a read in packet mode tells (ioctl_tty(2), TIOCPKT)
TIOCPKT_DATA: Final = 0
TIOCPKT_FLUSHREAD: Final = 1
TIOCPKT_FLUSHWRITE: Final = 2
TIOCPKT_STOP: Final = 4
TIOCPKT_START: Final = 8
TIOCPKT_NOSTOP: Final = 16
TIOCPKT_DOSTOP: Final = 32
TIOCPKT_IOCTL: Final = 64

INIT_C_CC: Final = bytes((3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0))
# What a terminal starts with (tty_std_termios of the Linux source)
INIT_TERMIOS: Final = TERMIOS.pack(
    sum(INPUT_FLAGS[name] for name in ("ICRNL", "IXON")),
    sum(OUTPUT_FLAGS[name] for name in ("OPOST", "ONLCR")),
    B38400 | CS8 | CREAD,
    sum(LOCAL_FLAGS[n] for n in ("ISIG", "ICANON", "ECHO", "ECHOE", "ECHOK", "ECHOCTL", "ECHOKE", "IEXTEN")),
    0,
    INIT_C_CC,
)
