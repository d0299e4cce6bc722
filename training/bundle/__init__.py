"""A model bundle made from a checkpoint: its specification, its weights in two forms, an 8-bit form."""
