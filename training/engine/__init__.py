"""One training run: its loop, checkpoints and record, and the machine it runs on."""
