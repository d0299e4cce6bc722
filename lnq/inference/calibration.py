"""Make a network's probability mean what it says (Platt 1999, on the logit).

Networks that were trained on partial labels answer on a scale of their own. Two numbers, fitted on cases with complete
truth, bring it to how often such a voxel is node. The order of the voxels stays, so masks do not change.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

LARGEST_LOGIT = 16.0  # of a probability in float32, next to 0 and to 1


def logit(probability: np.ndarray) -> np.ndarray:
    """Logarithm of the odds, float32 (float64 of float64), limited to 16 on both sides."""
    p = probability if probability.dtype == np.float64 else probability.astype(np.float32)
    with np.errstate(divide="ignore"):
        found: np.ndarray = np.clip(np.log(p) - np.log1p(-p), -LARGEST_LOGIT, LARGEST_LOGIT)
    return found


@dataclass(frozen=True)
class Calibration:
    """The calibrated logit is slope * logit + offset. Raises ValueError for a slope that is not positive."""

    slope: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        if not (self.slope > 0 and math.isfinite(self.slope) and math.isfinite(self.offset)):
            raise ValueError(f"A calibration needs a positive slope and an offset, not {self.slope} and {self.offset}")

    @property
    def changes(self) -> bool:
        """Whether it changes any probability."""
        return (self.slope, self.offset) != (1.0, 0.0)

    @property
    def inverse(self) -> Calibration:
        """What leads back to the probability that the network gave."""
        return Calibration(1.0 / self.slope, -self.offset / self.slope)

    def apply(self, probability: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, of the same shape and type. A probability of exactly 0 stays 0: nobody looked."""
        if not self.changes:
            return probability
        seen = probability > 0
        calibrated = 1.0 / (1.0 + np.exp(-(self.slope * logit(probability[seen]) + self.offset)))
        result = np.zeros_like(probability)
        result[seen] = calibrated
        return result

    def at(self, probability: float) -> float:
        """One calibrated probability, such as a threshold. 0 stays 0."""
        return float(self.apply(np.array([probability]))[0])

    def after(self, first: Calibration) -> Calibration:
        """This calibration of what another one gives, as one."""
        return Calibration(self.slope * first.slope, self.slope * first.offset + self.offset)


UNCALIBRATED = Calibration()
