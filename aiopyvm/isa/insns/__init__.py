"""The instruction table, one file per family. `aiopyvm.isa.spec.table()` imports them all."""
