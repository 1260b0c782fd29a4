"""CPython's own regression tests, on the host and in guests: `python -m tests.guests.cpython`."""
