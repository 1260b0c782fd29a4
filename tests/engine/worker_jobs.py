"""Generators of text that a compile worker calls, and that misbehave (tests/engine/test_native_objects.py)."""

from __future__ import annotations

import os
import signal
import time


def spin() -> str:
    """Never return."""
    while True:
        pass


def eat() -> str:
    """Ask for all memory there is."""
    held = []
    while True:
        held.append(bytes(64 << 20))  # the address space alone: zeros that nobody wrote cost no time


def leave() -> str:
    """End the worker."""
    os._exit(3)


def kill() -> str:
    """Let the worker be killed."""
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


def sleep() -> str:
    """Wait for longer than anybody would."""
    time.sleep(1000)
    return ""


def describe() -> str:
    """Return what the worker has of its parent, as text that LLVM will quote in a complaint."""
    descriptors = sorted(int(name) for name in os.listdir("/proc/self/fd"))
    return f"session={os.getsid(0)} fds={descriptors}"


def three() -> str:
    """Return a function that returns 3."""
    return "define i32 @three() {\n  ret i32 3\n}"


def slow() -> str:
    """Return it after a while."""
    time.sleep(0.5)
    return three()


def counted() -> str:
    """Return it after a while, and leave a line in the file that AIOPYVM_TEST_COUNT names."""
    with open(os.environ["AIOPYVM_TEST_COUNT"], "a") as file:
        file.write(f"{os.getpid()}\n")
    return slow()


def data() -> str:
    """Return what no object may have."""
    return "@x = global i32 1\n" + three()
