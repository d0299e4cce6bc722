"""Candidates: what networks mark on training CTs, for a person to judge."""
