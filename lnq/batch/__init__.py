"""Many cases into one output folder, by worker processes."""
