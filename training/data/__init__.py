"""Read raw cases, prepare them, and draw patches from them."""
