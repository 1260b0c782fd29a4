"""Engines: they execute instructions under the contract of `aiopyvm.engine.protocol`."""
