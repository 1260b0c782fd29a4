"""Tests of the runtime, its streams and the command line, on real guests."""
