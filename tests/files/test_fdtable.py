"""Descriptor tables: the lowest number first, limits, sharing; locks against a model."""

from __future__ import annotations

from itertools import groupby, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiopyvm.abi.errno import EAGAIN, EBADF, EINVAL, EMFILE, ENOLCK, Errno
from aiopyvm.abi.fcntl import F_RDLCK, F_UNLCK, F_WRLCK, LOCK_EX, LOCK_SH, O_PATH
from aiopyvm.kernel.fdtable import FdTable
from aiopyvm.kernel.file import File
from aiopyvm.kernel.fslocks import END, MAX_LOCKS, Locks, Record


class Counted(File):
    """Tells when it was closed."""

    def __init__(self) -> None:
        super().__init__()
        self.closes: list[int] = []

    @property
    def closed(self) -> int:
        """How often."""
        return len(self.closes)

    def close(self) -> None:
        self.closes.append(1)


actions = st.lists(
    st.one_of(
        st.tuples(st.just("install"), st.integers(0, 12), st.booleans()),
        st.tuples(st.just("close"), st.integers(-1, 14), st.booleans()),
        st.tuples(st.just("dup2"), st.integers(-1, 14), st.booleans()),
        st.tuples(st.just("exec"), st.just(0), st.booleans()),
    ),
    max_size=60,
)


@given(actions)
def test_like_a_dictionary(steps: list[tuple[str, int, bool]]) -> None:
    table, model, made = FdTable(limit=12), {}, []
    for what, n, cloexec in steps:
        if what in ("install", "dup2"):
            file = Counted()
            made.append(file.hold())
        if what == "install":
            free = next((fd for fd in range(n, 12) if fd not in model), 12)
            want = EINVAL if n >= 12 else EMFILE if free == 12 else free
            try:
                assert table.install(file, n, cloexec=cloexec) == want
                model[free] = (file, cloexec)
            except Errno as error:
                assert error.number == want  # noqa: PT017 - success is checked above
        elif what == "close":
            if n in model:
                table.close(n)
                del model[n]
            else:
                with pytest.raises(Errno, match="EBADF"):
                    table.close(n)
        elif what == "dup2":
            if 0 <= n < 12:
                table.install_at(n, file, cloexec=cloexec)
                model[n] = (file, cloexec)
            else:
                with pytest.raises(Errno, match="EBADF"):
                    table.install_at(n, file)
        else:
            table.close_on_exec()
            model = {fd: kept for fd, kept in model.items() if not kept[1]}
        if what in ("install", "dup2"):
            file.release()
        assert dict(table) == {fd: file for fd, (file, _) in model.items()}
        assert all(table.cloexec(fd) == flag for fd, (_, flag) in model.items())
    table.close_all()
    assert all(file.closed == 1 for file in made)


def test_fork_shares_the_open_files() -> None:
    table, file = FdTable(), Counted()
    table.install(file)
    child = table.fork()
    table.close(0)
    assert len(file.closes) == 0
    assert child.get(0) is file
    child.release()
    assert len(file.closes) == 1


def test_a_shared_table_closes_with_its_last_user() -> None:
    table, file = FdTable(), Counted()
    table.install(file)
    table.share()
    table.release()
    assert len(file.closes) == 0
    table.release()
    assert len(file.closes) == 1


def test_path_descriptors_are_for_looking_only() -> None:
    table = FdTable()
    table.install(File(O_PATH))
    with pytest.raises(Errno) as caught:
        table.get(0)
    assert caught.value.number == EBADF
    assert table.get_any(0).flags == O_PATH


locks = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from([F_RDLCK, F_WRLCK, F_UNLCK]), st.integers(0, 9), st.integers(1, 6)),
    max_size=40,
)


@given(locks)
def test_record_locks_are_right_byte_by_byte(steps: list[tuple[int, int, int, int]]) -> None:
    ours = Locks()
    held: dict[int, dict[str, int]] = {byte: {} for byte in range(20)}  # byte -> owner -> type
    for who, kind, start, length in steps:
        owner = "abc"[who]
        span = range(start, start + length)
        refused = kind != F_UNLCK and any(
            other != owner and F_WRLCK in (kind, held_kind) for byte in span for other, held_kind in held[byte].items()
        )
        try:
            ours.set(Record(start, start + length, kind, owner, who))
            assert not refused
        except Errno as error:
            assert refused, error  # noqa: PT017 - success is checked above
            assert error.number == EAGAIN  # noqa: PT017
            continue
        for byte in span:
            held[byte].pop(owner, None)
            if kind != F_UNLCK:
                held[byte][owner] = kind
        found: dict[int, dict[str, int]] = {byte: {} for byte in range(20)}
        assert ours.count == len(list(ours.records()))
        for owner, own in groupby(ours.records(), lambda lock: lock.owner):
            of_owner = list(own)
            for one, two in pairwise(of_owner):  # in order, and one lock where two would do
                assert one.end < two.start or (one.end == two.start and one.type != two.type), (owner, of_owner)
        for lock in ours.records():
            for byte in range(lock.start, lock.end):
                assert str(lock.owner) not in found[byte]
                found[byte][str(lock.owner)] = lock.type
        assert found == held


def test_a_record_lock_costs_a_search_among_thousands() -> None:
    ours = Locks()
    compared = 0

    class Counted(int):
        def __lt__(self, other: int) -> bool:
            nonlocal compared
            compared += 1
            return int.__lt__(self, other)

    for n in range(MAX_LOCKS - 1):
        ours.set(Record(Counted(2 * n), Counted(2 * n + 1), F_WRLCK, "a", 1))
    compared = 0
    ours.set(Record(Counted(4000), Counted(4001), F_WRLCK, "a", 1))
    ours.set(Record(Counted(4000), Counted(4001), F_UNLCK, "a", 1))
    assert ours.conflict(Record(Counted(8000), Counted(8003), F_RDLCK, "b", 2)) is not None
    assert compared < 200
    ours.set(Record(Counted(4000), Counted(4001), F_WRLCK, "b", 2))
    assert ours.count == MAX_LOCKS - 1
    ours.set(Record(1 << 40, END, F_WRLCK, "b", 2))
    with pytest.raises(Errno) as full:
        ours.set(Record(1 << 39, (1 << 39) + 1, F_WRLCK, "b", 2))
    assert full.value.number == ENOLCK
    ours.drop_owner("a")
    assert ours.count == 2


def test_flock_converts_and_conflicts() -> None:
    ours = Locks()
    ours.flock("a", LOCK_SH)
    ours.flock("b", LOCK_SH)
    with pytest.raises(Errno):
        ours.flock("a", LOCK_EX)
    assert "a" not in ours.flocks
    ours.unflock("b")
    ours.flock("a", LOCK_EX)
    with pytest.raises(Errno):
        ours.flock("b", LOCK_SH)
