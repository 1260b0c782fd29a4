"""A hundred clients of an echo server, as a process: `clients.py PORT ROUNDS` prints round trips a second."""

from __future__ import annotations

import selectors
import socket
import sys
import time

CLIENTS = 100
SIZE = 64


def clients(port: int, rounds: int) -> float:
    """Be all the clients; how many answers came in a second."""
    selector = selectors.DefaultSelector()
    left: dict[socket.socket, tuple[int, int]] = {}  # rounds, bytes of the present one
    message = bytes(SIZE)
    for _ in range(CLIENTS):
        client = socket.create_connection(("127.0.0.1", port))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(client, selectors.EVENT_READ)
        left[client] = rounds, SIZE
    began = time.perf_counter()
    for client in left:
        client.sendall(message)
    while left:
        for key, _ in selector.select():
            client = key.fileobj  # type: ignore[assignment]
            again, missing = left[client]
            data = client.recv(4096)
            if not data:
                raise ConnectionResetError("the server has closed a connection")
            missing -= len(data)
            if not missing:
                again, missing = again - 1, SIZE
                if again:
                    client.sendall(message)
            left[client] = again, missing
            if not again:
                selector.unregister(client)
                client.close()
                del left[client]
    return CLIENTS * rounds / (time.perf_counter() - began)


if __name__ == "__main__":
    print(clients(int(sys.argv[1]), int(sys.argv[2])))
