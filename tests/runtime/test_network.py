"""The edges of the guests' network: Python's connections, published ports, granted hosts, machines of one network."""

from __future__ import annotations

import socket
import struct
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import anyio.lowlevel
import pytest

from aiopyvm import VM, Limits, Network, Process, Reason, Result
from aiopyvm.abi.inet import IPPROTO_TCP, LOOPBACK4
from aiopyvm.cli import main
from aiopyvm.kernel.tcp import TcpSocket
from tests.native import glibc_path

pytestmark = pytest.mark.both_loops


@pytest.fixture(scope="session")
def program() -> Path:
    path = glibc_path("server")
    if path is None:
        pytest.skip("gcc -m32 is not there")
    return path


@asynccontextmanager
async def shouting_host() -> AsyncIterator[int]:
    """A server of the host on a port of its loopback interface, which answers in capitals."""

    async def answer(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            try:
                async for data in stream:
                    await stream.send(data.upper())
            except anyio.BrokenResourceError:
                pass

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, answer)
        yield listener.extra(anyio.abc.SocketAttribute.local_port)
        group.cancel_scope.cancel()


async def all_of(stream: anyio.abc.ByteReceiveStream) -> bytes:
    return b"".join([data async for data in stream])


# --- Python's connections ---------------------------------------------------------------------------------------------


async def test_python_connects_to_a_guest(program: Path) -> None:
    with anyio.fail_after(60):
        async with VM().open_elf(program, "serve", "8080", "2", argv0="server") as process:
            for text in (b"hello", b"x" * 2_000_000):
                async with await process.connect(8080) as stream, anyio.create_task_group() as group:

                    async def speak(stream: anyio.abc.ByteStream = stream, text: bytes = text) -> None:
                        await stream.send(text)
                        await stream.send_eof()

                    group.start_soon(speak)
                    assert await all_of(stream) == text.upper()
    assert process.result.ok


async def test_urgent_data_is_data_to_python(program: Path) -> None:
    with anyio.fail_after(60):
        async with VM().open_elf(program, "urgent", "8080", argv0="server") as process:
            async with await process.connect(8080) as stream:
                assert await all_of(stream) == b"abcabcabcd"
    assert process.result.ok


async def test_nobody_listens(program: Path) -> None:
    with anyio.fail_after(60):
        async with VM().open_elf(program, "hold", "8080", argv0="server") as process:
            with pytest.raises(ConnectionRefusedError, match="port 8081"):
                await process.connect(8081, wait=False)
            async with await process.connect(8080):
                assert await process.stdout.receive() == b"1\n"
                process.kill()
            with pytest.raises(ConnectionRefusedError):
                await process.connect(8080)
    for port, error in ((0, ValueError), (70000, ValueError), ("80", TypeError)):
        with pytest.raises(error):
            await process.connect(port)  # type: ignore[arg-type]


async def test_a_side_that_does_not_read_holds_the_other_back(program: Path) -> None:
    with anyio.fail_after(60):
        async with VM().open_elf(program, "hold", "8080", argv0="server") as process:
            stream = await process.connect(8080)
            sent = [0]

            async def speak() -> None:
                while True:
                    await stream.send(bytes(10000))
                    sent[0] += 10000

            async with anyio.create_task_group() as group:
                group.start_soon(speak)
                while stream._socket.room > 0:
                    await anyio.lowlevel.checkpoint()
                group.cancel_scope.cancel()
            assert 100_000 < sent[0] < 1_000_000
            process.kill()
            with pytest.raises(anyio.BrokenResourceError):
                await stream.send(b"x")
    with anyio.fail_after(60):
        async with VM().open_elf(program, "flood", "8080", argv0="server") as process:
            stream = await process.connect(8080)
            while stream._socket.peer is None or stream._socket.peer.room > 0:
                await anyio.lowlevel.checkpoint()
            assert 100_000 < stream._socket.inbox_size < 1_000_000
            await stream.aclose()
    assert process.result.ok  # its write failed: the connection was reset


async def test_a_server_without_visitors_is_a_deadlock_only_without_python(program: Path) -> None:
    with anyio.fail_after(60):
        assert (await VM().run_elf(program, "serve", "8080", argv0="server")).reason is Reason.DEADLOCK
        async with VM().open_elf(program, "serve", "8080", argv0="server") as process:
            await anyio.sleep(0.05)
            assert process.returncode is None
    assert process.result.reason is Reason.DEADLOCK  # the block was left: nobody can connect any more


async def test_a_server_that_ends_leaves_what_it_said(program: Path) -> None:
    with anyio.fail_after(60):
        async with VM().open_elf(program, "serve", "8080", argv0="server") as process:
            stream = await process.connect(8080)
            await stream.send(b"last words")
            await stream.send_eof()
            await process.wait()
            assert await stream.receive() == b"LAST WORDS"
            with pytest.raises(anyio.EndOfStream):
                await stream.receive()
            await stream.aclose()
            with pytest.raises(anyio.ClosedResourceError):
                await stream.receive()


# --- published ports --------------------------------------------------------------------------------------------------


async def test_a_published_port(program: Path) -> None:
    vm = VM(publish={0: 8080})
    with anyio.fail_after(60):
        async with vm.open_elf(program, "serve", "8080", "20", argv0="server") as process:
            await (await process.connect(8080)).aclose()  # it listens now
            host, port = process.published[8080]
            assert host == "127.0.0.1"
            answers = []

            async def visit(n: int) -> None:
                async with await anyio.connect_tcp(host, port) as stream:
                    await stream.send(b"visitor %d" % n)
                    await stream.send_eof()
                    answers.append(await all_of(stream))

            async with anyio.create_task_group() as group:
                for n in range(19):
                    group.start_soon(visit, n)
            assert sorted(answers) == sorted(b"VISITOR %d" % n for n in range(19))
        with pytest.raises(OSError):
            await anyio.connect_tcp(host, port)
    assert process.result.ok


async def test_a_published_port_that_is_taken(program: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        vm = VM(publish={taken.getsockname()[1]: 8080})
        with pytest.raises(OSError):
            await vm.run_elf(program, "serve", "8080", argv0="server")


async def test_a_published_port_where_nobody_listens(program: Path) -> None:
    with anyio.fail_after(60):
        async with VM(publish={0: 8081}).open_elf(program, "hold", "8080", argv0="server") as process:
            async with await anyio.connect_tcp(*process.published[8081]) as stream:
                with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                    await stream.receive()
            process.kill()


async def test_much_goes_through_a_published_port_both_ways(program: Path) -> None:
    with anyio.fail_after(60):
        async with VM(publish={0: 8080}).open_elf(program, "serve", "8080", "2", argv0="server") as process:
            await (await process.connect(8080)).aclose()  # it listens now
            data = bytes(range(97, 123)) * 150_000
            async with await anyio.connect_tcp(*process.published[8080]) as stream:

                async def speak() -> None:
                    await stream.send(data)
                    await stream.send_eof()

                async with anyio.create_task_group() as group:
                    group.start_soon(speak)
                    assert await all_of(stream) == data.upper()
    assert process.result.ok


async def test_a_guest_that_does_not_read_holds_a_published_ports_client_back(program: Path) -> None:
    with anyio.fail_after(60):
        async with VM(publish={0: 8080}).open_elf(program, "hold", "8080", argv0="server") as process:
            stream = await visit(process, 8080)
            await stream.send(b"x")
            (end,) = await ends_of(process, 1)

            async def speak() -> None:
                with pytest.raises(anyio.BrokenResourceError):
                    while True:
                        await stream.send(bytes(100_000))

            async with anyio.create_task_group() as group:
                group.start_soon(speak)
                while end.room > 0:
                    await anyio.lowlevel.checkpoint()
                for _ in range(100):
                    await anyio.lowlevel.checkpoint()
                assert end.peer is not None
                assert 100_000 < end.peer.inbox_size < 1_000_000
                process.kill()
            await stream.aclose()


async def test_a_client_that_does_not_read_holds_a_guest_back(program: Path) -> None:
    with anyio.fail_after(60):
        async with VM(publish={0: 8080}).open_elf(program, "flood", "8080", argv0="server") as process:
            stream = await visit(process, 8080)
            (end,) = await ends_of(process, 1)
            while end.peer is None or end.peer.room > 0:  # what the host itself buffers is full by then
                await anyio.lowlevel.checkpoint()
            for _ in range(100):
                await anyio.lowlevel.checkpoint()
            assert 100_000 < end.inbox_size < 1_000_000
            await stream.aclose()
            await process.wait()
    assert process.result.ok  # its write failed: the connection was reset


async def test_what_a_guest_sent_before_its_end_reaches_a_published_ports_client(program: Path) -> None:
    with anyio.fail_after(60):
        async with VM(publish={0: 8080}).open_elf(program, "serve", "8080", argv0="server") as process:
            stream = await visit(process, 8080)
            await stream.send(b"last words" * 10_000)
            await stream.send_eof()
            await process.wait()
            assert await all_of(stream) == b"LAST WORDS" * 10_000
            await stream.aclose()


async def test_a_client_of_the_host_that_resets_its_connection(program: Path) -> None:
    with anyio.fail_after(60):
        async with VM(publish={0: 8080}).open_elf(program, "serve", "8080", "2", argv0="server") as process:
            stream = await visit(process, 8080)
            await stream.send(b"half of")
            assert await stream.receive() == b"HALF OF"
            raw = stream.extra(anyio.abc.SocketAttribute.raw_socket)
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            await stream.aclose()
            stream = await visit(process, 8080)
            await stream.send(b"all")
            await stream.send_eof()
            assert await all_of(stream) == b"ALL"
            await stream.aclose()
    assert process.result.ok


async def test_no_more_published_connections_than_files_may_be_open(program: Path) -> None:
    vm = VM(publish={0: 8080})
    with anyio.fail_after(60):
        async with vm.open_elf(program, "serve", "8080", "20", argv0="server", limits=Limits(open_files=8)) as process:
            first = await visit(process, 8080)
            others = [await visit(process, 8080) for _ in range(19)]
            for _ in range(200):
                await anyio.lowlevel.checkpoint()
            assert len(await ends_of(process, 8)) == 8
            for n, stream in enumerate((first, *others)):
                await stream.send(b"visitor %d" % n)
                await stream.send_eof()
            for n, stream in enumerate((first, *others)):
                assert await all_of(stream) == b"VISITOR %d" % n
                await stream.aclose()
    assert process.result.ok


async def visit(process: Process, port: int) -> anyio.abc.SocketStream:
    """Connect as a client of the host, once the guest listens."""
    inet = process._run.kernel.net.inet
    while inet.find(IPPROTO_TCP, LOOPBACK4, port) is None:
        await anyio.lowlevel.checkpoint()
    return await anyio.connect_tcp(*process.published[port])


async def ends_of(process: Process, count: int) -> list[TcpSocket]:
    """The outside ends of a guest's connections, once there are `count`."""
    while len(ends := [end for end in process._run.outside._ends if not end.gone]) < count:
        await anyio.lowlevel.checkpoint()
    return ends


# --- granted hosts ----------------------------------------------------------------------------------------------------


async def fetch(vm: VM, program: Path, name: str, port: int, text: str = "") -> Result:
    with anyio.fail_after(60):
        return await vm.run_elf(program, "fetch", name, str(port), text, argv0="client")


async def test_a_granted_host(program: Path) -> None:
    async with shouting_host() as port:
        vm = VM(net=Network(allow=[("127.0.0.1", port), ("localhost.test", 9), ("localhost", port)]))
        assert (await fetch(vm, program, "198.18.0.2", port, "by address")).stdout == b"BY ADDRESS"
        assert (await fetch(vm, program, "127.0.0.1", port)).stdout == b"ECONNREFUSED\n"  # its own loopback
        assert (await fetch(vm, program, "198.18.0.2", port + 1)).stdout == b"ECONNREFUSED\n"
        assert (await fetch(vm, program, "198.18.0.9", port)).stdout == b"ENETUNREACH\n"
        assert (await fetch(vm, program, "93.184.216.34", 80)).stdout == b"ENETUNREACH\n"
        assert (await fetch(vm, program, "elsewhere.test", port)).stdout == b"elsewhere.test: not found\n"


async def test_nothing_is_granted_by_default(program: Path) -> None:
    async with shouting_host() as port:
        for vm in (VM(), VM(net=Network())):
            assert (await fetch(vm, program, "127.0.0.1", port, "x")).stdout == b"ECONNREFUSED\n"
            assert (await fetch(vm, program, "10.0.0.1", port, "x")).stdout in (b"ENETUNREACH\n", b"ECONNREFUSED\n")
            assert (await fetch(vm, program, "host.test", port)).stdout == b"host.test: not found\n"


async def test_a_name_is_resolved_by_the_host_when_it_is_needed(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []
    connect = anyio.connect_tcp

    async def connect_tcp(host: str, port: int) -> anyio.abc.SocketStream:
        asked.append((host, port))
        if host != "web.test":
            raise OSError("no such host")
        return await connect("127.0.0.1", port)

    monkeypatch.setattr(anyio, "connect_tcp", connect_tcp)
    async with shouting_host() as port:
        vm = VM(net=Network(allow=[("web.test", port), ("gone.test", 80)]))
        assert (await fetch(vm, program, "WEB.test", port, "by name")).stdout == b"BY NAME"
        assert (await fetch(vm, program, "gone.test", 80)).stdout == b"EHOSTUNREACH\n"
        assert (await fetch(vm, program, "web.test", 81)).stdout == b"ECONNREFUSED\n"
    assert asked == [("web.test", port), ("gone.test", 80)]


async def test_a_host_that_refuses(program: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    vm = VM(net=Network(allow=[("localhost", port)]))
    assert (await fetch(vm, program, "198.18.0.1", port)).stdout == b"ECONNREFUSED\n"


async def test_a_guest_that_gives_up_leaves_no_connection_behind(
    program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    under_way = [0, 0]

    async def connect_tcp(host: str, port: int) -> anyio.abc.SocketStream:
        under_way[0] += 1
        under_way[1] = max(under_way)
        try:
            await anyio.sleep_forever()
        finally:
            under_way[0] -= 1
        raise AssertionError

    monkeypatch.setattr(anyio, "connect_tcp", connect_tcp)
    vm = VM(net=Network(allow=[("mute.test", 80)]), limits=Limits(open_files=10))
    with anyio.fail_after(60):
        result = await vm.run_elf(program, "knock", "198.18.0.1", "80", "1000", argv0="client")
    assert result.stdout == b"1000\n"
    assert under_way[0] == 0
    assert under_way[1] <= 10


async def test_a_long_exchange_with_a_host(program: Path) -> None:
    async with shouting_host() as port:
        vm = VM(net=Network(allow=[("localhost", port)]))
        text = "word " * 20000
        assert (await fetch(vm, program, "198.18.0.1", port, text)).stdout == text.upper().encode()


async def test_what_is_no_grant() -> None:
    for grant, error in (
        ("example.org", TypeError),
        (("example.org",), TypeError),
        (("example.org", "80"), TypeError),
        (("example.org", 0), ValueError),
        (("", 80), TypeError),
    ):
        with pytest.raises(error):
            Network(allow=[grant])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        VM(net="host")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        VM(publish=[80])  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        VM(publish={80: 0})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--net", "example.org"], "HOST:PORT"),
        (["--net", "example.org:0"], "HOST:PORT"),
        (["--net", ":80"], "HOST:PORT"),
        (["--publish", "80"], "a port is"),
        (["--publish", "80:0"], "GUEST"),
        (["--publish", "70000:80"], "70000"),
    ],
)
async def test_what_the_command_line_refuses(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["run", *options, "program"])
    assert message in capsys.readouterr().err


async def test_the_command_lines_grants(program: Path) -> None:
    async with shouting_host() as port:
        command = [sys.executable, "-m", "aiopyvm", "run", "--net", f"localhost:{port}", str(program), "fetch"]
        with anyio.fail_after(100):
            answer = await anyio.run_process([*command, "198.18.0.1", str(port), "granted"])
            refused = await anyio.run_process([*command, "198.18.0.3", str(port)], check=False)
    assert answer.stdout == b"GRANTED"
    assert refused.stdout == b"ENETUNREACH\n"


# --- granted datagrams ------------------------------------------------------------------------------------------------


@asynccontextmanager
async def shouting_datagrams(heard: list[bytes]) -> AsyncIterator[int]:
    """A UDP server of the host, which answers in capitals, and keeps what it heard."""

    async def answer(socket: anyio.abc.UDPSocket) -> None:
        async for data, where in socket:
            heard.append(data)
            await socket.sendto(data.upper(), *where)

    async with await anyio.create_udp_socket(local_host="127.0.0.1") as server, anyio.create_task_group() as group:
        group.start_soon(answer, server)
        yield server.extra(anyio.abc.SocketAttribute.local_port)
        group.cancel_scope.cancel()


async def talk(net: Network | None, *words: str) -> str:
    path = glibc_path("udptalk")
    if path is None:
        pytest.skip("gcc -m32 is not there")
    with anyio.fail_after(60):
        result = await VM(net=net).run_elf(path, *words)
    return (result.stdout or b"").decode() or f"{result.reason.name}\n"


async def test_datagrams_to_a_granted_host() -> None:
    heard: list[bytes] = []
    async with shouting_datagrams(heard) as port:
        net = Network(
            allow=[("other.test", 80)], allow_udp=[("localhost", port), ("gone.test", 9), ("localhost", port + 1)]
        )
        there = "198.18.0.2"
        assert (
            await talk(net, "connected", there, str(port), "one", "two") == f"ONE from {there} 1\nTWO from {there} 1\n"
        )
        assert await talk(net, "free", there, str(port), "three") == f"THREE from {there} 1\n"
        assert await talk(net, "silent", there, str(port), "four", "five") == "EXITED\n"
        while len(heard) < 5:  # noqa: ASYNC110
            await anyio.sleep(0.01)
        assert heard == [b"one", b"two", b"three", b"four", b"five"]


async def test_datagrams_elsewhere_go_nowhere() -> None:
    heard: list[bytes] = []
    async with shouting_datagrams(heard) as port:
        net = Network(allow=[("localhost", port)], allow_udp=[("gone.invalid", port), ("localhost", 9)])
        local = "198.18.0.1"
        assert await talk(net, "free", local, str(port), "a") == "DEADLOCK\n"  # that is granted for TCP
        assert await talk(net, "connected", local, str(port), "a", "b") == "recv: ECONNREFUSED\n" * 2
        assert await talk(net, "connected", "198.18.0.2", str(port), "a") == "recv: EHOSTUNREACH\n"
        assert await talk(net, "free", "203.0.113.1", str(port), "a") == "send: ENETUNREACH\n"
        assert await talk(net, "connected", "127.0.0.1", str(port), "a") == "recv: ECONNREFUSED\n"
        assert await talk(None, "free", local, str(port), "a") == "send: ENETUNREACH\n"
        assert await talk(Network(), "free", local, str(port), "a") == "send: ENETUNREACH\n"
    assert not heard


async def test_a_datagram_that_the_host_refuses() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    net = Network(allow_udp=[("127.0.0.1", port), ("localhost", port)])
    assert await talk(net, "connected", "198.18.0.1", str(port), "a") == "recv: ECONNREFUSED\n"


async def test_flows_are_as_many_as_files_may_be_open() -> None:
    heard: list[bytes] = []
    path = glibc_path("udptalk")
    if path is None:
        pytest.skip("gcc -m32 is not there")
    async with shouting_datagrams(heard) as port:
        vm = VM(net=Network(allow_udp=[("localhost", port)]), limits=Limits(open_files=4))
        with anyio.fail_after(60):
            assert (await vm.run_elf(path, "free", "198.18.0.1", str(port), "a")).stdout == b"A from 198.18.0.1 1\n"


# --- machines of one network ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("clock", ["real", "virtual"])
async def test_machines_reach_each_other_by_name(program: Path, clock: str) -> None:
    net = Network()
    limits = Limits(wall_time=50)
    results: dict[str, Result] = {}

    async def run(vm: VM, *args: str) -> None:
        results[args[0]] = await vm.run_elf(program, *args, argv0=args[0], env={"PATIENT": "1"}, limits=limits)

    web = VM(net=net, hostname="web", clock=clock)  # type: ignore[arg-type]
    user = VM(net=net, hostname="user", clock=clock)  # type: ignore[arg-type]
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(run, web, "serve", "8080")
            await anyio.sleep(0.01)
            group.start_soon(run, user, "fetch", "web", "8080", "from afar")
    assert results["fetch"].stdout == b"FROM AFAR"
    assert results["serve"].ok
    assert not net.runs
    assert not net.machines.hosts


async def test_machines_of_different_networks_do_not_meet(program: Path) -> None:
    with anyio.fail_after(60):
        async with VM(net=Network(), hostname="web").open_elf(program, "hold", "8080", argv0="server") as process:
            await anyio.sleep(0.05)
            other = await VM(net=Network()).run_elf(program, "fetch", "web", "8080", argv0="client")
            assert other.stdout == b"web: not found\n"
            process.kill()


async def test_a_group_spans_the_machines_of_its_network() -> None:
    peer = glibc_path("multipeer")
    if peer is None:
        pytest.skip("gcc -m32 is not there")
    net, outside = Network(), Network()
    group = "239.7.7.7"
    with anyio.fail_after(60):
        async with AsyncExitStack() as stack:
            getters = [
                await stack.enter_async_context(VM(net=net).open_elf(peer, "get", group, "2")),
                await stack.enter_async_context(VM(net=net).open_elf(peer, "get", group, "2")),
                await stack.enter_async_context(VM(net=net).open_elf(peer, "get", "239.7.7.8", "1")),
                await stack.enter_async_context(VM(net=outside).open_elf(peer, "get", group, "1")),
            ]
            for getter in getters:
                assert getter.stdout is not None
                assert await getter.stdout.receive_until(b"\n") == b"joined"
            sender = VM(net=net)
            for words in (("0", "1", "not beyond"), ("1", "1", "one"), ("1", "0", "two")):
                assert (await sender.run_elf(peer, "put", group, *words)).ok
            for getter in getters[:2]:
                assert getter.stdout is not None
                assert await getter.wait() == 0
                lines = (await all_of(getter.stdout)).decode().splitlines()
                assert [line.partition(" from ")[0] for line in lines] == ["one", "two"]
                assert all(" from 10.0.0." in line for line in lines)
            for getter in getters[2:]:
                getter.kill()
    assert (await VM().run_elf(peer, "put", group, "1", "1", "x")).stderr == b"sendto: Network is unreachable\n"
