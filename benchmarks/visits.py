"""Count how many windows a model's networks are run over."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from lnq.inference.backends import Model, Network


def counted(model: Model) -> tuple[Model, Callable[[], int]]:
    """The same model, and a function that tells how many windows its networks were run over."""
    visited = 0

    def counting(network: Network) -> Network:
        def predict(patches: np.ndarray) -> np.ndarray:
            nonlocal visited
            visited += len(patches)
            return network.predict(patches)

        return Network(predict)

    return dataclasses.replace(model, networks=tuple(map(counting, model.networks))), lambda: visited
