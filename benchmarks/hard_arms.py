"""How the rows of the hard set are trained."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from training.ablation.rows import ROWS
from training.config import Config
from training.method.step import KNOWN, Objective

ArmName = Literal["g", "copies", "recipe", "recipe-full", "complete"]


@dataclass(frozen=True)
class Arm:
    """How a row is trained."""

    objective: Objective
    epochs: tuple[int, ...]  # of each round; before each but the first, nodes that are marked surely become labels
    pretrained: bool = False
    copies: int = 0  # of annotated nodes in a patch at most
    full: int = 0  # cases of the data that are annotated wholly
    full_share: float = 0.0  # of the samples that come from these at least
    complete: bool = False  # all are annotated wholly

    def applied_to(self, base: Config) -> Config:
        """A configuration with what this row changes, but for the number of epochs."""
        return dataclasses.replace(
            base,
            losses=dataclasses.replace(base.losses, batch_dice=self.objective == KNOWN),
            augmentation=dataclasses.replace(base.augmentation, copies=self.copies),
            sampling=dataclasses.replace(base.sampling, full_share=self.full_share),
        )


COPIES = 32
ARMS: dict[ArmName, Arm] = {
    "g": Arm(
        ROWS["g"].objective, (60,), pretrained=True
    ),  # the ablation's, of two branches: an epoch takes twice as long
    "copies": Arm(KNOWN, (80,), copies=COPIES),
    "recipe": Arm(KNOWN, (60, 20), copies=COPIES),
    "recipe-full": Arm(KNOWN, (60, 20), copies=COPIES, full=10, full_share=0.5),
    "complete": Arm(KNOWN, (80,), copies=COPIES, complete=True),
}
