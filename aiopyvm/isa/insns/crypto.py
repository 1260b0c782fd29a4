"""AES, PCLMULQDQ and SHA: each one definition in `isa.aes` or `isa.sha`, and the host's own instruction."""

from __future__ import annotations

from aiopyvm.ir.helpers import Helper
from aiopyvm.ir.types import I8, V128
from aiopyvm.isa import aes, sha
from aiopyvm.isa.places import ImmediatePlace, VectorPlace
from aiopyvm.isa.spec import form, insn
from aiopyvm.isa.sse import Source, load
from aiopyvm.isa.trace import Tracer
from aiopyvm.isa.vexrows import XMM, avx


def _with(feature: str) -> tuple[str, str]:
    """What the forms with VEX need."""
    both = " ".join(sorted(("avx", feature)))
    return both, both


def _of_two(helper: Helper, encoding: str, source: str, feature: str, *, vex: bool = False) -> None:
    @avx(three=True, lengths=(XMM,) * vex, features=_with(feature))
    @insn(helper.name, source=source, cpuid=feature)
    @form(encoding, "xmm1, xmm2/m128")
    def compute(b: Tracer, dst: VectorPlace, src: Source) -> None:
        """dst := dst op src."""
        dst.store(b.helper(helper, V128, dst.load(), load(b, src)))


def _with_immediate(helper: Helper, encoding: str, source: str, feature: str, *, vex: bool = False) -> None:
    @avx(three=True, lengths=(XMM,) * vex, features=_with(feature))
    @insn(helper.name, source=source, cpuid=feature)
    @form(encoding, "xmm1, xmm2/m128, imm8", static=(2,))
    def compute(b: Tracer, dst: VectorPlace, src: Source, control: ImmediatePlace) -> None:
        """dst := dst op src, as the immediate says."""
        dst.store(b.helper(helper, V128, dst.load(), load(b, src), b.const(int(control), I8)))


for _helper, _opcode in ((aes.aesenc, 0xDC), (aes.aesenclast, 0xDD), (aes.aesdec, 0xDE), (aes.aesdeclast, 0xDF)):
    _of_two(_helper, f"66 0F 38 {_opcode:02X} /r", f"Intel SDM vol. 2A, {_helper.name.upper()}", "aes", vex=True)
_with_immediate(aes.pclmulqdq, "66 0F 3A 44 /r ib", "Intel SDM vol. 2B, PCLMULQDQ", "pclmulqdq", vex=True)

for _helper, _opcode in (
    (sha.sha1nexte, 0xC8), (sha.sha1msg1, 0xC9), (sha.sha1msg2, 0xCA),
    (sha.sha256msg1, 0xCC), (sha.sha256msg2, 0xCD),
):  # fmt: skip
    _of_two(_helper, f"NP 0F 38 {_opcode:02X} /r", f"Intel SDM vol. 2B, {_helper.name.upper()}", "sha_ni")
_with_immediate(sha.sha1rnds4, "NP 0F 3A CC /r ib", "Intel SDM vol. 2B, SHA1RNDS4", "sha_ni")


@avx(lengths=(XMM,), features=_with("aes"))
@insn("aesimc", source="Intel SDM vol. 2A, AESIMC", cpuid="aes")
@form("66 0F 38 DB /r", "xmm1, xmm2/m128")
def aesimc(b: Tracer, dst: VectorPlace, src: Source) -> None:
    """dst := src with InvMixColumns."""
    dst.store(b.helper(aes.aesimc, V128, load(b, src)))


@avx(lengths=(XMM,), features=_with("aes"))
@insn("aeskeygenassist", source="Intel SDM vol. 2A, AESKEYGENASSIST", cpuid="aes")
@form("66 0F 3A DF /r ib", "xmm1, xmm2/m128, imm8", static=(2,))
def aeskeygenassist(b: Tracer, dst: VectorPlace, src: Source, constant: ImmediatePlace) -> None:
    """dst := what the key schedule needs of src, with the round constant."""
    dst.store(b.helper(aes.aeskeygenassist, V128, load(b, src), b.const(int(constant), I8)))


@insn("sha256rnds2", source="Intel SDM vol. 2B, SHA256RNDS2", cpuid="sha_ni")
@form("NP 0F 38 CB /r", "xmm1, xmm2/m128")
def sha256rnds2(b: Tracer, dst: VectorPlace, src: Source) -> None:
    """dst := the state after two rounds, from dst and src; words and constants are in XMM0."""
    dst.store(b.helper(sha.sha256rnds2, V128, dst.load(), load(b, src), b.get_vector("xmm0", V128)))
