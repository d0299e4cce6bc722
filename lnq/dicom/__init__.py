"""CT objects in: which series there are, and one of them read."""
