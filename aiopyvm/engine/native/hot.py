"""The hot tier: regions are made for code that is executed often, found again by other spaces, and forgotten.

A count record that runs out comes here (`Hot.promote`). Where a region is known whose bytes are all there, it becomes
that record's handler; else one is made by the compile worker, while the guest goes on in cold code. What always holds:

- A region is installed in a space only while all its code is live there (`SpaceCode.blocks`): what changes that code
  drops a block, and with it every region that covers a byte of it.
- An object is freed when no record leads to it and every run has ended that had begun before that (`Epochs`).
- What guests can make this hold is bounded: jobs at once, regions by address, bytes of code in all.
"""

from __future__ import annotations

import ctypes
import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Final

from aiopyvm.engine.native import perfmap
from aiopyvm.engine.native.cache import ObjectCache
from aiopyvm.engine.native.epochs import Epochs
from aiopyvm.engine.native.hotstate import Installed, Region, Wanted
from aiopyvm.engine.native.layout import CHECKED, MMU
from aiopyvm.engine.native.livecode import is_live
from aiopyvm.engine.native.objectfile import BadObjectError, LoadedObject, load
from aiopyvm.engine.native.regionfile import Covered, RegionFiles, name_in_image, name_of_request, read_covered
from aiopyvm.engine.native.space import UNCOUNTED, Block, SpaceCode
from aiopyvm.errors import AiopyvmError
from aiopyvm.isa.state import CpuState

if TYPE_CHECKING:  # what makes regions is long to import, and most programs end before one is made
    from aiopyvm.engine.native.guards import Guards
    from aiopyvm.engine.native.regionplan import Stack
    from aiopyvm.engine.native.worker import Compiler

AFTER: Final = 20_000  # passes of a counter: what making a region costs is about that many passes of cold code
AFTER_KEPT: Final = 2_000  # passes of a counter where one may be kept on disk: loading it costs about that many
AFTER_KNOWN: Final = 64  # passes of a counter where a region may be known already
MOST_JOBS: Final = 64  # of a space that wait for the compile worker
AT_ONCE: Final = 1  # in its hands: handlers are made there too
MOST_BYTES: Final = 64 << 20  # of code
MOST_ALIKE: Final = 4  # regions kept for one address
MOST_BARRED: Final = 1 << 14  # addresses remembered at which there is nothing to compile, or code changes often
MOST_CHURN: Final = 10  # doublings of the passes that a counter waits for, one each time its region was dropped
PASSES: Final = ("sroa", "instruction_combine", "simplify_cfg")
CODEGEN: Final = 2
CPU_SECONDS: Final = 10.0
_GENERATOR: Final = "aiopyvm.engine.native.regiontext:object_text"
_log: Final = logging.getLogger("aiopyvm")


class Hot:
    """The hot tier of an engine. `symbols`: what regions may refer to; `after`: passes of a counter until a region is
    made; `wait`: wait for the compile worker, so that a region is there when `promote` returns; `guards`: what arms
    spaces for regions whose accesses the host checks (None: all regions check their accesses); `allowed`: the features
    of the processor (None: all that there are).
    """

    def __init__(
        self, symbols: Mapping[str, int], after: int = AFTER, *, wait: bool = False, make: Compiler | None = None,
        cache: ObjectCache | None = None, most_bytes: int = MOST_BYTES, guards: Guards | None = None,
        allowed: frozenset[str] | None = None,
    ) -> None:  # fmt: skip
        self.after = after
        self._first = min(AFTER_KEPT, after)
        self.epochs = Epochs()
        self.counters = dict.fromkeys(("compiled", "adopted", "cached", "failed", "dropped", "evicted"), 0)
        self.compile_seconds = 0.0
        self._symbols = symbols
        self._wait = wait
        self._make = make
        self._files = RegionFiles(cache)
        self._most_bytes = most_bytes
        self.guards = guards
        self._allowed = allowed
        self._lock = threading.RLock()
        self._regions: dict[int, list[Region]] = {}
        self._order: deque[Region] = deque()
        self._bytes = 0  # of code
        self._executed = 0  # instructions, in spaces that are no more
        self._kept_bytes = 0  # of it, what spaces to come may have
        self._barred: set[tuple[int, bytes]] = set()
        self._making: dict[str, Wanted] = {}  # by name
        self._queue_lock = threading.RLock()  # of the next one, taken in the compiler's thread too
        self._submitted = 0
        self._done: deque[Wanted] = deque()
        self._lost: deque[Installed] = deque()  # of spaces that are no more
        self._spaces: weakref.WeakKeyDictionary[SpaceCode, Installed] = weakref.WeakKeyDictionary()
        _all.add(self)

    def forget_threads(self) -> None:
        """In a child of fork(2): locks are free, and what the parent's compiler was to make will not come."""
        self._lock, self._queue_lock = threading.RLock(), threading.RLock()
        self.epochs.forget_threads()
        if self.guards is not None:
            self.guards.forget_threads()
        self._submitted = 0
        done = {wanted.name for wanted in self._done}
        for name in self._making.keys() - done:
            wanted = self._making.pop(name)
            for reference, generation in wanted.spaces:
                code = reference()
                if code is not None:
                    self._count_again(code, wanted.root, generation)

    def statistics(self) -> dict[str, int]:
        """Counters since the start: regions by what became of them, bytes of code there are, time of the compiler."""
        self._forget_lost()
        with self._lock:
            executed = self._executed + sum(installed.context.hot for installed in self._spaces.values())
        now = {
            "instructions_hot": executed,
            "region_bytes": self._bytes,
            "region_compile_ms": round(1000 * self.compile_seconds),
        }
        if self.guards is not None:
            now |= {"spaces_armed": self.guards.armed, "spaces_disarmed": self.guards.given_up}
        return {f"regions_{name}": count for name, count in self.counters.items()} | now

    # -- what the engine tells -----------------------------------------------------------------------------------------

    def attend(self, code: SpaceCode) -> None:
        """Look after a space from now on."""
        installed = Installed(code.context)
        weakref.finalize(code, self._lost.append, installed)
        code.threshold, code.first = self.after, self._first
        code.patience = self._patience
        code.made, code.pending, code.asked = installed.made, installed.pending, installed.asked
        with self._lock:
            self._spaces[code] = installed
            counters = code.counters if self._regions else {}  # of what the space has adopted
            for root in self._regions.keys() & counters.keys():  # the fewer of both are looked at
                code.arena.set_value(counters[root], self._patience(root))
        code.on_drop.append(self._dropped)
        code.on_clear.append(self._cleared)

    def _forget_lost(self) -> None:
        """Forget spaces that are no more. Their finalizer takes no lock: it may run in any thread, anywhere."""
        while self._lost:
            with self._lock:
                if self._lost:
                    installed = self._lost.popleft()
                    self._executed += installed.context.hot
                    for root in list(installed.roots):
                        self._uninstall(installed, root)

    def _patience(self, eip: int) -> int:
        """How many passes a new counter at `eip` waits for."""
        return min(AFTER_KNOWN, self.after) if eip in self._regions else self._first

    def promote(self, code: SpaceCode, counter: int) -> int:
        """The count record at `counter` has run out; the offset to go on at, another one where everything was dropped.

        Raises as `SpaceCode.enter`.
        """
        eip, generation, stack = code.arena.eip(counter), code.generation, _stack(code)
        code.arena.set_value(counter, UNCOUNTED)
        with self._lock:
            begun, passes = self._adopt(code, eip, stack), max(self.after, 2)
            if not begun and self._asks_first(code, eip):
                passes -= self._first
            elif not begun:
                begun = self._later(code, eip, stack) or self._begin(code, eip, stack)
        if not begun and generation == code.generation:
            code.arena.set_value(counter, passes)
        self.collect(code)
        return counter if generation == code.generation else code.enter(eip)

    def _asks_first(self, code: SpaceCode, eip: int) -> bool:
        """Whether the counter at `eip` ran out for the first time: only what is known was asked for, it goes on."""
        installed = self._spaces.get(code)
        if self._first >= self.after or installed is None or eip in installed.asked:
            return False
        installed.asked.add(eip)
        return True

    def collect(self, code: SpaceCode) -> None:
        """Install the regions that were made meanwhile for a space, in which nobody may be running."""
        if not (code.made or self._done or self._lost or (code.pending and self._submitted < AT_ONCE)):
            return
        self._forget_lost()
        self._load_made()
        installed = self._spaces.get(code)
        while installed is not None and installed.made:
            generation, region = installed.made.popleft()
            with self._lock:
                if generation != code.generation or not region.kept:
                    continue
                fits = region.memory == CHECKED or self._guarded(code)
                if not (fits and self._install(code, region)):
                    self._count_again(code, region.root, generation)  # another one is to be made
        if installed is not None and installed.pending and self._submitted < AT_ONCE:
            with self._lock:
                self._take_up(code, installed)

    def _load_made(self) -> None:
        """Load the regions that were made meanwhile, for whichever space."""
        while self._done:  # in most cases there is none
            with self._lock:
                if self._done:
                    self._finish(self._done.popleft())

    # -- making --------------------------------------------------------------------------------------------------------

    def _later(self, code: SpaceCode, eip: int, stack: Stack) -> bool:
        """Have a region made when the compiler has time for it, if it has none now."""
        installed = self._spaces.get(code)
        if self._wait or self._submitted < AT_ONCE or installed is None or len(installed.pending) >= MOST_JOBS:
            return False
        installed.pending[eip], installed.stacks[eip] = code.generation, stack
        return True

    def _take_up(self, code: SpaceCode, installed: Installed) -> None:
        """The compiler has time: begin what was passed most since it waits. What a region has come to cover is counted
        anew: it may be executed nowhere else by now.
        """

        def passes(eip: int) -> int:
            return UNCOUNTED - code.arena.values(code.counter(eip))[0] & 0xFFFFFFFF

        while installed.pending and self._submitted < AT_ONCE:
            eip = max(installed.pending, key=passes)
            generation, stack = installed.pending.pop(eip), installed.stacks.pop(eip)
            if generation != code.generation or eip in installed.roots:
                continue
            covered = any(region.covers(eip, eip + 1) for region in installed.roots.values())
            if covered or not (self._adopt(code, eip, stack) or self._begin(code, eip, stack)):
                self._count_again(code, eip, generation)

    def _count_again(self, code: SpaceCode, eip: int, generation: int) -> None:
        """Wait for as many passes as at first, unless the space has dropped its code since `generation`."""
        if generation == code.generation and (counter := code.counter(eip)):
            code.arena.set_value(counter, max(self.after, 2))

    def _begin(self, code: SpaceCode, eip: int, stack: Stack) -> bool:
        """Have a region made; False where it may be tried again later."""
        if self._submitted >= AT_ONCE or self._bytes >= 2 * self._most_bytes:
            return False
        from aiopyvm.engine.native.regionrequest import request_for

        installed = self._spaces.get(code)
        chunks = [region.chunks for region in installed.roots.values()] if installed is not None else []
        request = request_for(code, eip, self._form(code), stack, self._allowed, chunks)
        if (eip, request.blocks[0][1]) in self._barred:
            return True
        text = request.to_text()
        name = name_of_request(text)
        space = weakref.ref(code), code.generation
        known = self._making.get(name)
        if known is not None:
            known.spaces.append(space)
            return True
        kept_as = name_in_image(code.space, eip, request.memory, self._allowed)
        wanted = Wanted(eip, request, name, kept_as or name, space)
        if kept_as is None and (kept := self._files.get(name)) is not None:
            self.counters["cached"] += 1
            self._deliver(wanted, kept[1])
            return True
        self._making[name] = wanted
        from aiopyvm.engine.native.worker import Job, Options, compiler

        options = Options(CODEGEN, None, PASSES)
        wanted.job = Job(text, options, _GENERATOR, CPU_SECONDS, lambda job: self._compiled(wanted))
        with self._queue_lock:
            self._submitted += 1
        (self._make or compiler()).submit_job(wanted.job)
        if self._wait:
            wanted.ready.wait()
        return True

    def _compiled(self, wanted: Wanted) -> None:
        """A job is done; in the compiler's thread."""
        self._done.append(wanted)
        wanted.ready.set()
        with self._queue_lock:
            self._submitted -= 1

    def _finish(self, wanted: Wanted) -> None:
        """The compiler is done with a region."""
        job = wanted.job
        assert job is not None
        del self._making[wanted.name]
        self.compile_seconds += job.seconds
        if job.data is None:
            self._bar(wanted, str(job.error))
            return
        self.counters["compiled"] += 1
        region = self._deliver(wanted, job.data)
        if region is not None:
            self._files.put(wanted.kept_as, region.covered, job.data)

    def _deliver(self, wanted: Wanted, data: bytes) -> Region | None:
        """Load a region for those who wait for it."""
        try:
            region = self._load(wanted, data)
        except (BadObjectError, AiopyvmError) as error:
            self._bar(wanted, str(error))
            return None
        for reference, generation in wanted.spaces:
            code = reference()
            installed = self._spaces.get(code) if code is not None else None
            if installed is not None:
                installed.made.append((generation, region))
        self._evict()
        return region

    def _bar(self, wanted: Wanted, error: str) -> None:
        """There is no region at this address."""
        self.counters["failed"] += 1
        _log.info("no region at %#x: %s", wanted.root, error.partition("\n")[0])
        if len(self._barred) >= MOST_BARRED:
            self._barred.clear()
        self._barred.add((wanted.root, wanted.request.blocks[0][1]))

    def _load(self, wanted: Wanted, data: bytes) -> Region:
        from aiopyvm.engine.native.regionplan import Blocks

        loaded = load(data, self._symbols)
        at, size = loaded.address("covered"), loaded.size - (loaded.symbols["covered"] - loaded.at)
        covered = read_covered(ctypes.string_at(at, size), Blocks(wanted.request.blocks).read)
        return self._add(wanted.root, loaded, covered, wanted.request.memory, wanted.request.stack)

    def _add(
        self, root: int, loaded: LoadedObject, covered: Covered, memory: str, stack: Stack | None = None
    ) -> Region:
        """A region that is loaded, for spaces to come."""
        perfmap.record_region(loaded.address("region"), loaded.size - (loaded.symbols["region"] - loaded.at), root)
        region = Region(root, loaded, covered, memory, stack)
        alike = self._regions.setdefault(root, [])
        alike.insert(0, region)
        self._order.append(region)
        self._bytes += loaded.size
        self._kept_bytes += loaded.size
        for old in alike[MOST_ALIKE:]:
            self._discard(old)
        return region

    # -- in a space ----------------------------------------------------------------------------------------------------

    def _adopt(self, code: SpaceCode, eip: int, stack: Stack) -> bool:
        """Install a region that was made before, where all of its code is here, for an x87 stack."""
        memory = self._form(code)
        for region in self._regions.get(eip, ()):
            if region.memory == memory and region.stack in (None, stack) and self._install(code, region):
                self.counters["adopted"] += 1
                return True
        return self._fetch(code, eip, memory)

    def _fetch(self, code: SpaceCode, eip: int, memory: str) -> bool:
        """Install the region that an earlier process made for this place of an image, where all of its code is here."""
        name = name_in_image(code.space, eip, memory, self._allowed)
        kept = self._files.get(name) if name is not None and self._bytes < 2 * self._most_bytes else None
        if kept is None or not all(code.space.view[at : at + len(expected)] == expected for at, expected in kept[0]):
            return False
        try:
            region = self._add(eip, load(kept[1], self._symbols), kept[0], memory)
        except (BadObjectError, AiopyvmError) as error:
            _log.info("no region at %#x from an earlier process: %s", eip, error)
            return False
        self.counters["cached"] += 1
        found = self._install(code, region)
        self._evict()
        return found

    def _install(self, code: SpaceCode, region: Region) -> bool:
        installed = self._spaces.get(code)
        if installed is None or not code.counter(region.root) or not all(is_live(code, *run) for run in region.covered):
            return False
        counter = code.counter(region.root)
        if not counter:
            return False  # making the code live has dropped everything
        self._uninstall(installed, region.root)
        installed.roots[region.root] = region
        region.users += 1
        code.arena.set_handler(counter, region.loaded.symbols["region"])
        return True

    def _uninstall(self, installed: Installed, root: int) -> None:
        """No record of the space leads to its region at `root` any more."""
        region = installed.roots.pop(root, None)
        if region is not None:
            region.users -= 1
            self._free_unused(region)

    def _dropped(self, code: SpaceCode, block: Block) -> None:
        with self._lock:
            installed = self._spaces.get(code)
            if installed is None:
                return
            start, end = block.addresses[0], block.end
            hit = [root for root, region in installed.roots.items() if region.covers(start, end)]
            if len(installed.churn) >= MOST_BARRED:
                installed.churn.clear()
            for root in hit:
                self.counters["dropped"] += 1
                churn = installed.churn[root] = min(installed.churn.get(root, 0) + 1, MOST_CHURN)
                self._remove(code, installed, root, max(self.after, 2) << churn)

    def _remove(self, code: SpaceCode, installed: Installed, root: int, passes: int) -> None:
        """The space's record at `root` counts again, until another region is made."""
        counter = code.counter(root)
        if counter:
            code.arena.set_handler(counter, code.steps.count)
            code.arena.set_value(counter, min(passes, UNCOUNTED))
        self._uninstall(installed, root)

    # -- whose accesses the host checks --------------------------------------------------------------------------------

    def _guarded(self, code: SpaceCode) -> bool:
        """Whether regions whose accesses the host checks may be installed in a space, which is armed for that."""
        installed = self._spaces.get(code)
        if installed is None or self.guards is None:
            return False
        if installed.guarded is None:
            installed.guarded = self.guards.arm(code.space, partial(_unguard, weakref.ref(self), weakref.ref(code)))
        return installed.guarded

    def _form(self, code: SpaceCode) -> str:
        """The form of memory of regions for a space, which is armed where that is MMU."""
        return MMU if self._guarded(code) else CHECKED

    def unguard(self, code: SpaceCode) -> None:
        """The space is not armed any more: its regions check their accesses from now on."""
        with self._lock:
            installed = self._spaces.get(code)
            if installed is not None and installed.guarded:
                installed.guarded = False
                for root in [root for root, region in installed.roots.items() if region.memory == MMU]:
                    self._remove(code, installed, root, min(AFTER_KNOWN, max(self.after, 2)))

    def _cleared(self, code: SpaceCode) -> None:
        with self._lock:
            installed = self._spaces.get(code)
            if installed is not None:
                installed.asked.clear()
                for root in list(installed.roots):
                    self._uninstall(installed, root)

    # -- forgetting ----------------------------------------------------------------------------------------------------

    def _evict(self) -> None:
        """Forget the oldest regions while there is too much code; those in use live on until they are left."""
        for _ in range(len(self._order)):
            if self._kept_bytes <= self._most_bytes:
                break
            region = self._order[0]
            self.counters["evicted"] += 1
            self._discard(region)

    def _discard(self, region: Region) -> None:
        """Forget a region: no space to come will have it."""
        if not region.kept:
            return
        region.kept = False
        self._kept_bytes -= region.loaded.size
        self._order.remove(region)
        alike = self._regions[region.root]
        alike.remove(region)
        if not alike:
            del self._regions[region.root]
        self._free_unused(region)

    def _free_unused(self, region: Region) -> None:
        """Let go of the code that no space has, or is to have."""
        if not region.users and not region.kept:
            self.epochs.retire(region.loaded)
            self._bytes -= region.loaded.size


def _stack(code: SpaceCode) -> Stack:
    """TOP and the registers in use of the x87 of who runs in a space."""
    cpu = CpuState.from_address(code.context.cpu)
    return cpu.ftop, cpu.fvalid


_all: Final[weakref.WeakSet[Hot]] = weakref.WeakSet()


def _forget_threads() -> None:
    for hot in tuple(_all):
        hot.forget_threads()


os.register_at_fork(after_in_child=_forget_threads)


def _unguard(hot: weakref.ref[Hot], code: weakref.ref[SpaceCode]) -> None:
    found, space = hot(), code()
    if found is not None and space is not None:
        found.unguard(space)


def passes() -> int:
    """How many passes of a counter make code hot: AIOPYVM_HOT_AFTER. Raises ValueError where that is no such number."""
    chosen = os.environ.get("AIOPYVM_HOT_AFTER") or str(AFTER)
    if not (chosen.isascii() and chosen.isdecimal() and int(chosen)):
        raise ValueError(f"AIOPYVM_HOT_AFTER is a number of passes from 1 on, not {chosen!r}")
    return min(int(chosen), UNCOUNTED - 1)


__all__ = ["AFTER", "Hot", "passes"]
