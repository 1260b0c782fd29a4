"""Hostile programs: whatever they are and do, the end is a typed one."""
