"""VM, scheduler, trap loop, limits."""
