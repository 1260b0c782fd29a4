"""The native engine: code generated through LLVM from the definitions that the Python engine uses."""

from aiopyvm.engine.native.loading import native_engine

__all__ = ["native_engine"]
