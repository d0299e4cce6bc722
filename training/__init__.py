"""Training: everything that makes the weights which `lnq` runs."""
