"""What a run trains on: the chosen cases of a prepared folder, and what they have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lnq.inference.spec import Normalisation
from training.config import Config
from training.data.certain import CERTAIN, refuse_missing
from training.data.dataset_info import DatasetInfo, normalisation_for, read_dataset_info, refuse_other_crop
from training.data.prepared import PreparedCase
from training.data.splits import ALL_FOR_TRAINING, Selection, training_folders


@dataclass(frozen=True)
class TrainingSet:
    """Cases to train on, with the statistics of their data set."""

    cases: Sequence[PreparedCase]
    info: DatasetInfo
    normalisation: Normalisation

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the cases."""
        return tuple(case.info.case for case in self.cases)


def read_training_set(
    data: Path, config: Config, selection: Selection = ALL_FOR_TRAINING, labels: bool = True
) -> TrainingSet:
    """Read the cases of a prepared folder that a run trains on; without `labels` what pre-training needs of them.

    Raises ValueError where there is none, where the folder was not prepared to its end, and where a case was not
    cropped as the configuration says: inference with the model will crop by the configuration. With `labels` also
    where the losses need certain background, or the sampling wrong places, that the data do not have.
    """
    arrays = ("image", *(_of_labels(config) if labels else ()))
    folders = training_folders(data, selection)
    if CERTAIN in arrays:
        for folder in folders:
            refuse_missing(folder)
    cases = [PreparedCase(folder, config.sampling.cache, arrays) for folder in folders]
    if labels and config.sampling.wrong_every:
        unseen = next((case.info.case for case in cases if case.wrong is None), None)
        if unseen is not None:
            raise ValueError(f"{data / unseen} does not say where a network was wrong: run training.mine first")
    info = read_dataset_info(data)
    refuse_other_crop(f"The data in {data}", info.crop, "the configuration", config.crop)
    for case in cases:
        refuse_other_crop(f"Case {case.info.case} in {data}", case.info.crop, "its data set", info.crop)
    return TrainingSet(cases, info, normalisation_for(config.normalisation, info))


def _of_labels(config: Config) -> tuple[str, ...]:
    """The arrays beside the image that fine-tuning reads."""
    certain = (CERTAIN,) if config.losses.trust == "certain" else ()
    return ("label", *certain, *(("region",) if config.augmentation.copies else ()))
