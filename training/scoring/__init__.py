"""Score masks on complete truth, and choose thresholds on it."""
