"""The program's version, in a module of its own: packaging reads it without importing anything."""

__version__ = "0.1.0"
