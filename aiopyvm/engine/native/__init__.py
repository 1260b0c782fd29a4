"""The native engine: code generated through LLVM from the definitions that the Python engine uses."""
