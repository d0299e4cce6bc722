"""Synthetic chest CTs with lymph nodes: complete truth and partial annotation, deterministic by seed."""

from phantom.make import Phantom, make_phantom

__all__ = ["Phantom", "make_phantom"]
