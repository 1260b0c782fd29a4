"""The intermediate representation: what an instruction means, in a closed set of typed operations."""
