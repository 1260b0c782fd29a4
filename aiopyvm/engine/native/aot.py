"""The object made ahead of time: the way in, the ways out, and handlers for all common shapes.

It has one place in the code arena, so it is linked once, when it was built; what is kept on disk is that image, and
loading it is one copy. Where there is none yet a process makes it in the background, which goes on when this one ends
(`detached.py`): `poll` has nothing until then.
"""

from __future__ import annotations

import os
import struct
import threading
import time
from array import array
from typing import TYPE_CHECKING, Any, Final

from aiopyvm.engine.native.cache import ObjectCache, object_cache
from aiopyvm.engine.native.cachekey import name_of
from aiopyvm.engine.native.codearena import FIXED_START, CodeArena, code_arena
from aiopyvm.engine.native.objectfile import BadObjectError, Image, LoadedObject, ObjectFile, place
from aiopyvm.errors import AiopyvmError, EngineUnavailableError

if TYPE_CHECKING:
    from aiopyvm.engine.native.detached import Detached

GENERATOR: Final = "aiopyvm.engine.native.generate:object_text"
CPU_SECONDS: Final = 300.0
CODEGEN: Final = 2
PATIENCE_S: Final = 3600.0  # with a builder that somebody else started
PERIOD_S: Final = 0.1
_HEAD: Final = struct.Struct("<q3I")  # place, symbols, sections (two numbers each), bytes of names


def name(generator: str = GENERATOR) -> str:
    """Return the object's name in the cache. Raises EngineUnavailableError without llvmlite."""
    return name_of("aot", generator.encode())


def pack_image(image: Image) -> bytes:
    """Return an image as bytes: how much there is of what, numbers, names, code."""
    numbers = array("q", image.symbols.values())
    for section in image.sections.values():
        numbers.extend(section)
    names = "\0".join([*image.symbols, *image.sections]).encode()
    head = _HEAD.pack(image.at, len(image.symbols), len(image.sections), len(names))
    return b"".join([head, numbers.tobytes(), names, image.code])


def unpack_image(data: bytes) -> Image:
    """Undo `pack_image`. Raises BadObjectError."""
    try:
        at, symbols, sections, size = _HEAD.unpack_from(data)
        start = _HEAD.size + 8 * (symbols + 2 * sections)
        numbers = array("q", data[_HEAD.size : start]).tolist()
        names = data[start : start + size].decode().split("\0")
        places, bounds = numbers[:symbols], iter(numbers[symbols:])
        image = Image(
            at,
            data[start + size :],
            dict(zip(names[:symbols], places, strict=True)),
            dict(zip(names[symbols:], zip(bounds, bounds, strict=True), strict=True)),
        )
    except (ValueError, struct.error) as error:
        raise BadObjectError(f"a damaged image: {error}") from None
    if places and not at <= min(places) <= max(places) <= at + len(image.code):
        raise BadObjectError("a damaged image: a symbol is outside of it")
    return image


class AheadOfTime:
    """Gets the object into `arena`, once: from the cache, or built in the background. Thread-safe."""

    def __init__(
        self, arena: CodeArena | None = None, cache: ObjectCache | None = None, generator: str = GENERATOR
    ) -> None:
        self._arena = arena
        self._cache = cache
        self._generator = generator
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._begun = False
        self._error: AiopyvmError | None = None
        self.loaded: LoadedObject | None = None
        self.from_cache = False
        self.kept = False  # what was built is in the cache
        self.build_seconds = 0.0

    def poll(self) -> LoadedObject | None:
        """Return the object; None as long as it is being built. Raises EngineUnavailableError: there will be none."""
        if self.loaded is None:
            self._begin()
            if self._error is not None:
                raise EngineUnavailableError(str(self._error)) from self._error
        return self.loaded

    def wait(self, timeout: float | None = None) -> LoadedObject:
        """Return the object, when it is there. Raises EngineUnavailableError, TimeoutError."""
        self._begin()
        if not self._over.wait(timeout):
            raise TimeoutError(f"generated code was not built within {timeout} s")
        loaded = self.poll()
        assert loaded is not None
        return loaded

    def _begin(self) -> None:
        if self._begun:
            return
        with self._lock:
            if self._begun:
                return
            self._begun = True
            try:
                self._arena = self._arena or code_arena()
                self._cache = self._cache or object_cache()
                self._name = name(self._generator)
                if not self._load_kept():
                    self._build()
            except AiopyvmError as error:
                self._fail(error)

    def _load_kept(self) -> bool:
        assert self._cache is not None
        data = self._cache.get(self._name)
        if data is None:
            return False
        try:
            image = unpack_image(data)
        except BadObjectError:
            return False
        self._show(image)
        self.from_cache = True
        return True

    def _build(self) -> None:
        """Have it built by a process that goes on without us, unless there is one at it; follow that in a thread."""
        try:
            process = self._start()
        except OSError:
            self._build_here()
        else:
            threading.Thread(target=self._follow, args=(process,), name="aiopyvm-builder", daemon=True).start()

    def _start(self) -> Detached | None:
        """Start a builder; None as long as another one is at work, or where it has just done it. Raises OSError."""
        from aiopyvm.engine.native.detached import Detached, order

        assert self._cache is not None
        lock = self._cache.try_lock()
        if lock is None:
            return None
        if not self._load_kept():
            return Detached(lock, order(self._cache.root, self._name, self._generator, CODEGEN, CPU_SECONDS))
        os.close(lock)  # somebody was quicker
        return None

    def _follow(self, process: Detached | None) -> None:
        """Wait until it is there, whoever builds it."""
        begun = time.monotonic()
        try:
            while process is None and self.loaded is None and time.monotonic() < begun + PATIENCE_S:
                time.sleep(PERIOD_S)
                process = self._start()
            if self.loaded is not None:
                return
            if process is not None and process.wait() and self._load_kept():
                self.from_cache, self.kept = False, True
                self.build_seconds = time.monotonic() - begun
            else:
                self._build_here()
        except OSError:  # of the cache: HostRefusedError, too
            self._build_here()
        except AiopyvmError as error:
            self._fail(error)

    def _build_here(self) -> None:
        """Have it built by this process's own worker, where the cache cannot be used."""
        from aiopyvm.engine.native.worker import Job, Options, compiler

        job = Job("", Options(CODEGEN), self._generator, CPU_SECONDS, self._built)
        compiler().submit_job(job)

    def _built(self, job: Any) -> None:
        """Link, keep and load what the worker made; in the compiler's thread."""
        self.build_seconds = job.seconds
        try:
            if job.data is None:
                raise EngineUnavailableError(f"generated code cannot be compiled: {job.error}")
            try:
                image = ObjectFile(job.data).link(FIXED_START, {})
            except BadObjectError as error:
                raise EngineUnavailableError(f"generated code cannot be loaded: {error}") from None
            assert self._cache is not None
            self.kept = self._cache.put(self._name, pack_image(image))
            self._show(image)
        except AiopyvmError as error:
            self._fail(error)

    def _show(self, image: Image) -> None:
        try:
            self.loaded = place(image, self._arena)
        except ValueError as error:
            raise EngineUnavailableError(f"generated code has no place: {error}") from None
        self._over.set()

    def _fail(self, error: AiopyvmError) -> None:
        self._error = error
        self._over.set()


_instances: list[AheadOfTime] = []


def ahead_of_time() -> AheadOfTime:
    """Return the process's one, made when first asked for."""
    if not _instances:
        _instances.append(AheadOfTime())
    return _instances[0]


def _forget_unfinished() -> None:
    """In a forked child: what the parent's threads were about to do will not happen here."""
    if _instances and _instances[0].loaded is None:
        _instances.clear()


os.register_at_fork(after_in_child=_forget_unfinished)
