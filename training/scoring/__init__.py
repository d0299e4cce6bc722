"""Masks scored on complete truth, and thresholds chosen on it."""
