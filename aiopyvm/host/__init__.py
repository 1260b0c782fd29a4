"""The only real I/O."""
