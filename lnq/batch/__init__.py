"""Segment many cases into one output folder, in worker processes."""
