"""Linux i386: numbers, structure layouts, errno, signal frames. Data only."""
