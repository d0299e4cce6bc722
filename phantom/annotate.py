"""The partial annotation: which nodes of a scan a hurried reader annotates."""

import numpy as np

SHARE = 0.2  # part of a scan's nodes that is annotated, on average


def choose_partial(rng: np.random.Generator, short_axes_mm: list[float]) -> list[int]:
    """Draw which nodes are annotated, as indices: about one in five, and at least one where there is any.

    A node's chance grows with the square of its short axis.
    """
    if not short_axes_mm:
        return []
    count = max(1, int(rng.binomial(len(short_axes_mm), SHARE)))
    weight = np.array(short_axes_mm) ** 2
    return [int(i) for i in rng.choice(len(short_axes_mm), count, replace=False, p=weight / weight.sum())]
