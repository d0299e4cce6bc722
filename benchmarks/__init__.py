"""Yardsticks: what this project claims of its speed, measured beside the peers. One command each, see docs/speed.md."""
