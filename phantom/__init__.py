"""Synthetic chest CTs with lymph nodes: complete truth and partial annotation, deterministic by seed."""
