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
TIOCSCTTY: Final = 0x540E
TIOCGPGRP: Final = 0x540F
TIOCSPGRP: Final = 0x5410
TIOCOUTQ: Final = 0x5411
TIOCGWINSZ: Final = 0x5413
TIOCSWINSZ: Final = 0x5414
FIONREAD: Final = 0x541B
FIONBIO: Final = 0x5421
TIOCNOTTY: Final = 0x5422
TIOCGSID: Final = 0x5429
TCSBRKP: Final = 0x5425
FIONCLEX: Final = 0x5450
FIOCLEX: Final = 0x5451
FIOASYNC: Final = 0x5452
FIOQSIZE: Final = 0x5460

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
    TIOCSCTTY: "TIOCSCTTY",
    TIOCGPGRP: "TIOCGPGRP",
    TIOCSPGRP: "TIOCSPGRP",
    TIOCOUTQ: "TIOCOUTQ",
    TIOCGWINSZ: "TIOCGWINSZ",
    TIOCSWINSZ: "TIOCSWINSZ",
    FIONREAD: "FIONREAD",
    FIONBIO: "FIONBIO",
    TIOCNOTTY: "TIOCNOTTY",
    TIOCGSID: "TIOCGSID",
    TCSBRKP: "TCSBRKP",
    FIONCLEX: "FIONCLEX",
    FIOCLEX: "FIOCLEX",
    FIOASYNC: "FIOASYNC",
    FIOQSIZE: "FIOQSIZE",
}

# struct termios of the kernel: c_iflag, c_oflag, c_cflag, c_lflag, c_line, c_cc[19] (asm-generic/termbits.h)
TERMIOS: Final = struct.Struct("<IIIIB19s")
# struct termio: the same as 16 bits each, c_cc[8] (asm-generic/termios.h)
TERMIO: Final = struct.Struct("<HHHHB8sx")
WINSIZE: Final = struct.Struct("<HHHH")  # ws_row, ws_col, ws_xpixel, ws_ypixel

ICRNL: Final = 0o400
IXON: Final = 0o2000
OPOST: Final = 0o1
ONLCR: Final = 0o4
B38400: Final = 0o17
CS8: Final = 0o60
CREAD: Final = 0o200
ISIG: Final = 0o1
ICANON: Final = 0o2
ECHO: Final = 0o10
ECHOE: Final = 0o20
ECHOK: Final = 0o40
ECHOCTL: Final = 0o1000
ECHOKE: Final = 0o4000
IEXTEN: Final = 0o100000

INIT_C_CC: Final = bytes((3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22, 0, 0, 0))
# What a terminal starts with (tty_std_termios of the Linux source)
INIT_TERMIOS: Final = TERMIOS.pack(
    ICRNL | IXON,
    OPOST | ONLCR,
    B38400 | CS8 | CREAD,
    ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN,
    0,
    INIT_C_CC,
)
