"""Signal frames of Linux i386, as a 64-bit kernel lays them out for 32-bit programs (asm/sigframe.h)."""

from typing import Final, NamedTuple

from aiopyvm.abi.layout import layout


@layout("<22I")
class Sigcontext(NamedTuple):
    """struct sigcontext_32, 88 bytes; each selector has a zero upper half."""

    gs: int
    fs: int
    es: int
    ds: int
    edi: int
    esi: int
    ebp: int
    esp: int
    ebx: int
    edx: int
    ecx: int
    eax: int
    trapno: int
    err: int
    eip: int
    cs: int
    eflags: int
    esp_at_signal: int
    ss: int
    fpstate: int
    oldmask: int
    cr2: int


SIGCONTEXT_SIZE: Final = 88
FPSTATE_SIZE: Final = 624  # struct _fpstate_32, whose place in the old frame is unused

# struct sigframe_ia32: pretcode, sig, sc, fpstate_unused, extramask, retcode
FRAME_CONTEXT: Final = 8
FRAME_EXTRAMASK: Final = FRAME_CONTEXT + SIGCONTEXT_SIZE + FPSTATE_SIZE
FRAME_RETCODE: Final = FRAME_EXTRAMASK + 4
FRAME_SIZE: Final = FRAME_RETCODE + 8

# struct rt_sigframe_ia32: pretcode, sig, pinfo, puc, info, uc, retcode
RT_INFO: Final = 16
RT_UCONTEXT: Final = RT_INFO + 128
UC_STACK: Final = 8  # within the ucontext: uc_flags, uc_link, uc_stack, uc_mcontext, uc_sigmask
UC_MCONTEXT: Final = 20
UC_SIGMASK: Final = UC_MCONTEXT + SIGCONTEXT_SIZE
RT_RETCODE: Final = RT_UCONTEXT + UC_SIGMASK + 8
RT_FRAME_SIZE: Final = RT_RETCODE + 8

# struct fregs_state: the FSAVE image, then the status word once more and X86_FXSR_MAGIC: the FXSAVE image follows.
FREGS_SIZE: Final = 112
FXSR_MAGIC: Final = 0x0000
FPSTATE_ALIGNMENT: Final = 64
FP_XSTATE_MAGIC1: Final = 0x46505853
FP_XSTATE_MAGIC2: Final = 0x46505845  # a word behind the XSAVE area


@layout("<IIQI28x")
class FpxSwBytes(NamedTuple):
    """struct _fpx_sw_bytes, 48 bytes at `xarea.SOFTWARE`; sizes in bytes."""

    magic1: int
    extended_size: int  # of all, from the FSAVE image to the second magic word
    xfeatures: int  # the components that a frame may have
    xstate_size: int  # of the XSAVE area


FPX_SW_BYTES_SIZE: Final = 48

RETCODE: Final = bytes.fromhex("58b877000000cd80")  # popl %eax; movl $119,%eax; int $0x80
RT_RETCODE_BYTES: Final = bytes.fromhex("b8ad000000cd8000")  # movl $173,%eax; int $0x80
