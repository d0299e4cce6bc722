"""Segmentation of mediastinal lymph nodes: a chest CT in, a mask and measured nodes out. Not for clinical use."""

from lnq.api import from_array, from_sitk, load_model, read_ct, segment
from lnq.errors import BundleError, ImageError
from lnq.image.volume import Volume
from lnq.inference.backends import Model
from lnq.nodes.measure import Node
from lnq.pipeline import Segmentation
from lnq.version import __version__

__all__ = [
    "BundleError",
    "ImageError",
    "Model",
    "Node",
    "Segmentation",
    "Volume",
    "__version__",
    "from_array",
    "from_sitk",
    "load_model",
    "read_ct",
    "segment",
]
