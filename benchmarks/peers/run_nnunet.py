"""nnU-Net v2 from the lungs' box on: its reader, preprocessing, sliding window at half a patch, resampling and writer.

Its steps for a single image are called one by one, as `predict_single_npy_array` calls them. So time and memory are
those of one process, whereas nnUNetv2_predict starts others for the preprocessing and the export. No probabilities are
saved, which is its default. They are computed again after the measuring.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from nnunetv2.inference.export_prediction import convert_predicted_logits_to_segmentation_with_correct_shape
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from benchmarks.peers.stages import ContenderJob, ContenderOutcome, Stages
from benchmarks.peers.torch_network import Counter, load_network
from lnq.image.itk import read_volume
from lnq.image.volume import Volume
from lnq.inference.backends import available_cpus
from lnq.inference.network import SegmentationNet
from lnq.inference.spec import ModelSpec

CONFIGURATION = "3d_fullres"
DATASET = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "node": 1}, "file_ending": ".nii.gz"}


def run_nnunet(job: ContenderJob, stages: Stages, mirror: bool) -> ContenderOutcome:
    """Read the box, segment it and write the mask. `mirror`: mean over all eight mirrorings of each window."""
    spec, network = load_network(job.bundle)
    counter = Counter(network)
    predictor = make_predictor(spec, network, mirror)
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    reader = plans.image_reader_writer_class()
    preprocessor = configuration.preprocessor_class(verbose=False)
    stages.ready()
    with stages("read"):
        image, properties = reader.read_images([str(job.crop)])
    with stages("preprocess"):
        data, _, properties = preprocessor.run_case_npy(image, None, properties, plans, configuration, DATASET)
        del image
    with stages("network"):
        logits = predictor.predict_logits_from_preprocessed_data(torch.from_numpy(data))  # [2, Z, Y, X]
    with stages("postprocess"):
        segmentation = to_box(predictor, logits, properties)
    mask = job.output / "mask.nii.gz"
    with stages("write"):
        reader.write_seg(segmentation, str(mask), properties)

    def probability() -> Volume:
        _, both = to_box(predictor, logits, properties, return_probabilities=True)
        return read_volume(job.crop).with_array(np.asarray(both[1], np.float32))

    return ContenderOutcome(mask, counter.calls, probability)


def to_box(predictor: nnUNetPredictor, logits: torch.Tensor, properties: dict[str, Any], **options: bool) -> Any:
    """The mask on the box's grid of logits on the network's, and with `return_probabilities` both probabilities too."""
    return convert_predicted_logits_to_segmentation_with_correct_shape(
        logits,
        predictor.plans_manager,
        predictor.configuration_manager,
        predictor.label_manager,
        properties,
        num_threads_torch=available_cpus(),
        **options,
    )


def make_predictor(spec: ModelSpec, network: SegmentationNet, mirror: bool) -> nnUNetPredictor:
    """A predictor around a network that nnU-Net did not train."""
    predictor = nnUNetPredictor(
        tile_step_size=0.5, use_gaussian=True, use_mirroring=mirror, device=torch.device("cpu"), allow_tqdm=False
    )
    plans = PlansManager(plans_for(spec))
    predictor.manual_initialization(
        network,
        plans,
        plans.get_configuration(CONFIGURATION),
        [network.state_dict()],
        DATASET,
        trainer_name="nnUNetTrainer",
        inference_allowed_mirroring_axes=(0, 1, 2),
    )
    return predictor


def plans_for(spec: ModelSpec) -> dict[str, Any]:
    """nnU-Net's plans for a bundle, with its default resampling: cubic for images, linear for logits."""
    rule = spec.normalisation
    low, high = rule.clip_hu or (0.0, 0.0)
    intensities = {"mean": rule.mean, "std": rule.std, "percentile_00_5": low, "percentile_99_5": high}
    scheme = "ZScoreNormalization" if rule.kind == "zscore" else "CTNormalization"
    resampling = {"order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": CONFIGURATION,
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(spec.patch),
        "spacing": list(spec.spacing_mm),
        "normalization_schemes": [scheme],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, **resampling},
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, **resampling},
        "resampling_fn_probabilities_kwargs": {"is_seg": False, "order": 1, **resampling},
        "architecture": {},  # not read, because the network is given
    }
    return {
        "dataset_name": "Dataset001_Nodes",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],  # the reader's arrays are [Z, Y, X], as the network's
        "transpose_backward": [0, 1, 2],
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": intensities},
        "configurations": {CONFIGURATION: configuration},
    }
