"""The compile worker: the process that alone imports llvmlite. LLVM text in, objects out, over stdin and stdout.

Run by path (`python -P compile_worker.py MEMORY PATH...`), so that it starts without the rest of the package. A frame
is its length (8 bytes, little-endian) and its bytes; a request is a JSON frame and a frame of text, an answer is a JSON
frame ({"error": ...} or {}) and a frame with the object. A request that names a generator ("module:function") has its
text made here. LLVM may abort, run for ever or eat all memory: then this process ends, by the limits that it sets
itself, and no other.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import resource
import signal
import struct
import sys
from collections.abc import Sequence
from typing import IO, Any, Final

_LENGTH: Final = struct.Struct("<Q")
_PR_SET_PDEATHSIG: Final = 1
MAX_FRAME: Final = 1 << 30
# LLVM 22 turns `mov (%rsi,%rax), %ax`, whose upper half of EAX is needed, into a MOVZX: it does not see the use of RAX
# in the address. The pass that does it is only a matter of speed. Two stores merged to one of twice the width make the
# next load of either half wait for both.
_OPTIONS: Final = ("--fixup-byte-word-insts=false", "--combiner-store-merging=false")


def read_frame(stream: IO[bytes]) -> bytes | None:
    """Return the next frame; None at the end. Raises ValueError for one that is cut off or too long."""
    head = stream.read(_LENGTH.size)
    if not head:
        return None
    size = _LENGTH.unpack(head)[0] if len(head) == _LENGTH.size else MAX_FRAME + 1
    if size > MAX_FRAME:
        raise ValueError(f"a frame of {size} bytes")
    data = stream.read(size)
    if len(data) < size:
        raise ValueError("a frame is cut off")
    return data


def write_frame(stream: IO[bytes], data: bytes) -> None:
    """Write one frame."""
    stream.write(_LENGTH.pack(len(data)) + data)


class Builder:
    """LLVM for this host. `options` are further ones, for all that this process builds."""

    def __init__(self, options: Sequence[str] = ()) -> None:
        import llvmlite.binding as llvm

        for option in (*_OPTIONS, *options):
            llvm.set_option("", option)
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        llvm.initialize_native_asmparser()
        self._llvm: Any = llvm
        self._target = llvm.Target.from_default_triple()
        self._cpu = llvm.get_host_cpu_name()
        # With AVX-512 LLVM makes masks of comparisons, and vectors of those again: memchr took 2.5 times as long as
        # natively instead of 1.4, and nothing was faster.
        self._features = llvm.get_host_cpu_features().flatten() + ",-avx512f"
        self._machines: dict[int, Any] = {}

    def build(self, text: str, options: dict[str, Any]) -> bytes:
        """Return the object for LLVM text. Raises RuntimeError (LLVM complains), AttributeError (no such pass)."""
        module = self._llvm.parse_assembly(text)
        module.verify()
        machine = self._machine(int(options["codegen"]))
        if options["level"] is not None or options["passes"]:
            self._optimise(module, machine, options["level"], options["passes"])
        return bytes(machine.emit_object(module))

    def _optimise(self, module: Any, machine: Any, level: int | None, passes: Sequence[str]) -> None:
        tuning = self._llvm.create_pipeline_tuning_options(speed_level=level or 0)
        builder = self._llvm.create_pass_builder(machine, tuning)
        if level is not None:
            builder.getModulePassManager().run(module, builder)
        if passes:
            manager = self._llvm.create_new_module_pass_manager()
            for name in passes:
                getattr(manager, f"add_{name}_pass")()
            manager.run(module, builder)

    def _machine(self, codegen: int) -> Any:
        machine = self._machines.get(codegen)
        if machine is None:
            machine = self._machines[codegen] = self._target.create_target_machine(
                cpu=self._cpu, features=self._features, opt=codegen, reloc="pic", codemodel="small"
            )
        return machine


def limit_cpu(seconds: float) -> None:
    """Let this process use `seconds` more of processor time; SIGXCPU ends it then."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def make_text(generator: str, source: str) -> str:
    """Return what the function "module:function" returns, for `source` where there is one."""
    module, _, function = generator.partition(":")
    text: str = getattr(importlib.import_module(module), function)(*([source] if source else []))
    return text


def answer(builder: Builder, request: dict[str, Any], text: str) -> bytes:
    """Return the object for a request. Raises whatever goes wrong with it."""
    limit_cpu(request["cpu_seconds"])
    return builder.build(make_text(request["generator"], text) if request["generator"] else text, request["options"])


def serve(source: IO[bytes], sink: IO[bytes]) -> None:
    """Answer requests until the end of `source`."""
    builder: Builder | None = None
    while (head := read_frame(source)) is not None:
        text = read_frame(source) or b""
        data, error = b"", None
        try:
            builder = builder or Builder()
            data = answer(builder, json.loads(head), text.decode())
        except MemoryError:
            raise SystemExit("out of memory") from None
        except Exception as problem:
            error = f"{type(problem).__name__}: {problem}"
        write_frame(sink, json.dumps({} if error is None else {"error": error[:4000]}).encode())
        write_frame(sink, data)
        sink.flush()


def main(arguments: Sequence[str]) -> None:
    """Serve this process's parent. `arguments`: bytes of address space, directories to import from."""
    limit = int(arguments[0])
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # without effect where the parent is gone: end of file
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # when the host is out of memory, this process goes before its parent
    sys.path += [path for path in arguments[1:] if path not in sys.path]
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with contextlib.closing(open(os.devnull, "rb")) as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)  # what is printed by accident must not stand between the frames
    serve(source, sink)


if __name__ == "__main__":
    main(sys.argv[1:])
