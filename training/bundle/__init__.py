"""Make a model bundle from a checkpoint: its specification, its weights in two forms, and an 8-bit form."""
