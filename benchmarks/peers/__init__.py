"""What runs the peers, and this project beside them, each in a process of its own."""
