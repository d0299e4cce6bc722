"""Yardsticks for what this project claims of its speed, beside its peers. Each is a command, see docs/speed.md."""
