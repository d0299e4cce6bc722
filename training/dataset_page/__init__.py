"""A page that shows a prepared data set before training: what it holds, and what looks wrong in it."""
