"""Raw cases: where they are found, and how they are read."""
