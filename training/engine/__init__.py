"""One training run: the loop, its checkpoints, its record, the machine it runs on."""
