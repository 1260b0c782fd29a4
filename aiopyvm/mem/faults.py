"""What a failed guest memory access is: the address, the access, and whether something is mapped there."""

from __future__ import annotations

from typing import Literal

Access = Literal["r", "w", "x"]


class MemoryFault(Exception):
    """A page fault (#PF). `address` is the first linear address that could not be accessed.

    `present` tells a protection violation (True; SEGV_ACCERR) from a missing page (False; SEGV_MAPERR). `bus` marks an
    access past the end of a backing object (SIGBUS, BUS_ADRERR). `out_of_memory` marks a first touch that the memory
    budget refused. Never leaves the package: an engine turns it into an `Exit`, a system call into EFAULT.
    """

    __slots__ = ("access", "address", "bus", "out_of_memory", "present")

    def __init__(
        self, address: int, access: Access, *, present: bool = False, bus: bool = False, out_of_memory: bool = False
    ) -> None:
        super().__init__(f"{access} access to {address:#010x}")
        self.address = address
        self.access = access
        self.present = present
        self.bus = bus
        self.out_of_memory = out_of_memory

    @property
    def error_code(self) -> int:
        """The error code that the CPU pushes (Intel SDM vol. 3A, "Page-Fault Exception"): bits P, W/R, U/S, I/D."""
        return self.present | (self.access == "w") << 1 | 1 << 2 | (self.access == "x") << 4


class AddressSpaceFull(Exception):
    """No addresses, no mapping or no budget is left for what was asked: ENOMEM for the guest.

    Never leaves the package.
    """
