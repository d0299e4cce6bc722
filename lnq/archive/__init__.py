"""Find, name and open the cases under what a user points at."""
