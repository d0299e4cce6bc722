"""Faults of the disk: each write, flush and rename of a command fails once in turn."""
