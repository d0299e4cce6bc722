"""How patches are changed before a network sees them."""
