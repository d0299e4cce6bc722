"""Which nodes of a scan a hurried reader annotates: the partial annotation."""

import numpy as np

SHARE = 0.2  # of a scan's nodes, on average


def choose_partial(rng: np.random.Generator, short_axes_mm: list[float]) -> list[int]:
    """Indices of the annotated nodes: about one in five and at least one; chances grow with the short axis squared."""
    if not short_axes_mm:
        return []
    count = max(1, int(rng.binomial(len(short_axes_mm), SHARE)))
    weight = np.array(short_axes_mm) ** 2
    return [int(i) for i in rng.choice(len(short_axes_mm), count, replace=False, p=weight / weight.sum())]
