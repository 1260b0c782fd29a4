"""The guest's address space: mappings, permissions, backings, copy-on-write, code tracking, faults."""
