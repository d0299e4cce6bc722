"""The cases under what a user points at: found, named, opened."""
