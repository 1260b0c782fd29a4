"""What 32-bit code may have and the instruction table has not, with the reason, by iced-x86's names of features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Group:
    """Instructions that need one of some features: names, or with a star their beginnings."""

    title: str
    features: tuple[str, ...]
    reason: str

    def has(self, needed: str) -> bool:
        """Whether instructions with these features (a space between them) are of the group."""
        return any(
            name == feature or (feature.endswith("*") and name.startswith(feature[:-1]))
            for name in needed.split()
            for feature in self.features
        )


_LATER: Final = "later than AVX2; CPUID does not announce it"
_VENDOR: Final = "another maker's, or one model's; no processor here is that one"
_SYSTEM: Final = "for systems, not programs; CPUID does not announce it, and it is #UD"

# The first group that has one of the features is it.
LEFT_OUT: Final = (
    Group("AVX-512", ("AVX512*",), _LATER),
    Group("AVX-VNNI, AVX-IFMA, AVX-NE-CONVERT", ("AVX_*",), _LATER),
    Group("GFNI, SHA512, SM3, SM4", ("GFNI", "SHA512", "SM3", "SM4"), _LATER),
    Group("VAES, VPCLMULQDQ with YMM registers", ("VAES", "VPCLMULQDQ"), _LATER),
    Group("Key Locker", ("AESKLE", "KL", "WIDE_KL"), "needs keys that a system loads; CPUID does not announce it"),
    Group("RAO-INT, ENQCMD, MOVDIR64B, CLDEMOTE", ("RAO_INT", "ENQCMD", "MOVDIR64B"), _LATER),
    Group("TSX", ("RTM", "HLE_OR_RTM", "TSXLDTRK"), "removed from processors; XACQUIRE and XRELEASE mean nothing"),
    Group("CET", ("CET_SS",), "no shadow stack; ENDBR32 and RDSSPD are NOPs, as on processors without it"),
    Group("MPX", ("MPX",), "removed from processors; its encodings are NOPs where the manual says so"),
    Group("PKU", ("PKU",), "32-bit programs on Linux get no protection keys"),
    Group("SERIALIZE, PTWRITE, WAITPKG, HRESET, UDBG", ("SERIALIZE", "PTWRITE", "WAITPKG", "HRESET", "UDBG"), _LATER),
    Group("SYSCALL", ("SYSCALL",), "#UD in 32-bit code on Intel's processors"),
    Group("MONITOR, MWAIT", ("MONITOR", "MONITORX"), _SYSTEM),
    Group(
        "virtualisation, enclaves, firmware",
        ("VMX", "SVM", "SKINIT_OR_SVM", "SEV_*", "SGX1", "OSS", "SMX", "TDX", "PCONFIG", "INVPCID", "SMAP", "WRMSRNS"),
        _SYSTEM,
    ),
    Group("3DNow!", ("D3NOW*", "CYRIX_D3NOW"), "AMD's, and gone; PREFETCHW is there"),
    Group(
        "of AMD",
        (
            *("SSE4A", "XOP", "FMA4", "TBM", "LWP", "CLZERO", "MCOMMIT", "RDPRU", "INVLPGB"),
            *("CL1INVMB", "PCOMMIT"),
        ),
        _VENDOR,
    ),
    Group("of Cyrix, VIA and Centaur", ("CYRIX_*", "PADLOCK_*", "CENTAUR_*"), _VENDOR),
    Group(
        "of the 286, early 386 and Itanium",
        ("INTEL286_ONLY", "INTEL386_*", "FPU287XL_ONLY", "FPU387SL_ONLY", "UMOV", "IA64"),
        _VENDOR,
    ),
)


def group_of(features: str) -> Group:
    """The group of what is left out. Raises LookupError: it has no reason."""
    for group in LEFT_OUT:
        if group.has(features):
            return group
    raise LookupError(f"nothing says why instructions of {features} are left out")
