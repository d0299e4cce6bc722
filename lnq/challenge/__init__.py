"""The grand-challenge interface: the container that runs and ends, and the one that serves."""
