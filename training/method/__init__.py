"""The method: losses, the training step, the dual-branch network."""
