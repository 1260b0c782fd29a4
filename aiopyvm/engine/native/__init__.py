"""The native engine: code generated through LLVM from the definitions that the Python engine uses.

`loading.native_engine` makes one. Nothing is imported here: who only asks where the cache is should not wait for more.
"""
