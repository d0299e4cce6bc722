"""Training: everything that makes the weights that `lnq` runs."""
