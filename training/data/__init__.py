"""Raw cases, prepared cases, and patches drawn from them."""
