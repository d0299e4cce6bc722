"""The specification of a shipped model, `model/spec.json`, as a frozen dataclass, and the check of its weight files."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lnq.errors import BundleError
from lnq.files import write_text
from lnq.inference.calibration import UNCALIBRATED, Calibration
from lnq.plain import from_plain

FORMAT_VERSION = 2  # of a bundle of one network; 1 had no peak_threshold and no mirror
ENSEMBLE_VERSION = 3  # of a bundle of several networks, which older programs would take for its first one
CALIBRATED_VERSION = 4  # of a bundle whose thresholds are on a calibrated probability, which older programs do not know
SPEC_NAME = "spec.json"
WEIGHTS_NAME = "weights.safetensors"  # read by torch
ONNX_NAME = "model.onnx"  # read by OpenVINO
INT8_NAME, INT8_WEIGHTS_NAME = "model-int8.xml", "model-int8.bin"  # read by OpenVINO; optional
_KINDS = (WEIGHTS_NAME, ONNX_NAME, INT8_NAME, INT8_WEIGHTS_NAME)

MIRRORINGS = (0, 1, 2, 4, 8)  # runs of each window, each with another flip; 0: one run without flips

_MOST_LEVELS, _MOST_CHANNELS, _MOST_KERNEL = 10, 4096, 16
_MOST_PATCH = 2**24  # voxels; the paper's has 1.8 million
_SPACING_MM = (0.2, 15.0)  # as of CTs
_LEAST_STEP = 0.1  # windows a tenth of a patch apart are a thousand for each patch

Triple = tuple[float, float, float]
IntTriple = tuple[int, int, int]


def _check_numbers(name: str, values: Any, count: int) -> None:
    """Raise ValueError unless `values`, which come from JSON, are `count` finite numbers."""
    numbers = isinstance(values, (tuple, list)) and all(isinstance(v, (int, float)) for v in values)
    if not numbers or len(values) != count or not all(map(math.isfinite, values)):
        raise ValueError(f"{name} must be finite numbers, {count} of them, not {values!r}")


def check_mirror(mirror: Any) -> None:
    """Raise ValueError unless `mirror` is one of MIRRORINGS."""
    if type(mirror) is not int or mirror not in MIRRORINGS:  # True and 1.0 are equal to 1
        raise ValueError(f"Mirroring must be one of {', '.join(map(str, MIRRORINGS))}, not {mirror!r}")


def member_file(kind: str, member: int) -> str:
    """The name of a member's file, such as `weights-2.safetensors`. Members count from 1, which has no number."""
    name, extension = kind.split(".")
    return kind if member == 1 else f"{name}-{member}.{extension}"


def kind_of_file(name: str) -> str | None:
    """The kind of a bundle's weight file, which is the name of the first member's; None for any other file."""
    kind = re.sub(r"-[0-9]+(?=\.)", "", name)
    return kind if kind in _KINDS else None


@dataclass(frozen=True)
class NetworkSpec:
    """Shape of the encoder and of one decoder (METHOD section 3), one entry per level, finest first."""

    channels: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    kernels: tuple[IntTriple, ...] = ((1, 3, 3), *((3, 3, 3),) * 5)
    strides: tuple[IntTriple, ...] = ((1, 2, 2), *((2, 2, 2),) * 4)  # between level i and i + 1
    dropout: tuple[float, ...] = (0.05, 0.1, 0.2, 0.3, 0.5, 0.0)  # of single elements, in the encoder's blocks
    in_channels: int = 1
    classes: int = 2

    def __post_init__(self) -> None:
        levels = len(self.channels)
        if not 1 <= levels <= _MOST_LEVELS:
            raise ValueError(f"A network has 1 to {_MOST_LEVELS} levels, not {levels}")
        counts = (*self.channels, self.in_channels, self.classes)
        steps = [n for triple in (*self.kernels, *self.strides) for n in triple]
        if not all(type(n) is int and 1 <= n <= _MOST_CHANNELS for n in counts) or not all(
            type(n) is int and 1 <= n <= _MOST_KERNEL for n in steps
        ):
            raise ValueError(
                f"A network has 1 to {_MOST_CHANNELS} channels, and kernels and strides of 1 to {_MOST_KERNEL}"
            )
        if not (len(self.kernels) == len(self.dropout) == levels and len(self.strides) == levels - 1):
            raise ValueError(
                f"A network of {levels} channel counts needs {levels} kernels and dropout rates and {levels - 1} "
                f"strides, not {len(self.kernels)}, {len(self.dropout)} and {len(self.strides)}"
            )

    @property
    def divisor(self) -> IntTriple:
        """What a patch's size must be a multiple of, per axis (z, y, x)."""
        product = [1, 1, 1]
        for stride in self.strides:
            product = [p * s for p, s in zip(product, stride, strict=True)]
        return (product[0], product[1], product[2])


@dataclass(frozen=True)
class CropSpec:
    """Margins of the lungs' box and of the mediastinal region (METHOD sections 2 and 7)."""

    margin_mm: float = 10.0  # around the lungs' bounding box
    region_margin_mm: float = 15.0  # around the space between the lungs
    use_region: bool = True  # report no node outside the mediastinal region


DEFAULT_CROP = CropSpec()


@dataclass(frozen=True)
class Normalisation:
    """`zscore`: zero mean and unit variance per volume. `ct`: clip to `clip_hu`, subtract `mean`, divide by `std`."""

    kind: str = "zscore"
    clip_hu: tuple[float, float] | None = None
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in ("zscore", "ct"):
            raise ValueError(f"Normalisation must be 'zscore' or 'ct', not {self.kind!r}")
        if self.kind == "ct" and (self.clip_hu is None or not self.std > 0):
            raise ValueError("Normalisation 'ct' needs clip_hu and a positive std")


@dataclass(frozen=True)
class PostProcessing:
    """Rules in physical units (METHOD section 7). The defaults are the paper's."""

    border_mm: Triple = (9.0, 2.4, 2.4)  # 3 voxels of 3.0 x 0.8 x 0.8 mm; z, y, x
    hu_range: tuple[float, float] = (-54.0, 235.5)
    min_volume_mm3: float = 175.0

    def __post_init__(self) -> None:
        _check_numbers("border_mm", self.border_mm, 3)
        _check_numbers("hu_range", self.hu_range, 2)
        _check_numbers("min_volume_mm3", (self.min_volume_mm3,), 1)


@dataclass(frozen=True)
class ModelSpec:
    """The contents of `spec.json`. Sizes and spacings are in z, y, x order.

    A bundle may hold several networks, its members, which differ in their weights alone. `sha256` names their files.
    """

    network: NetworkSpec
    patch: IntTriple
    spacing_mm: Triple
    normalisation: Normalisation
    threshold: float = 0.5  # on the calibrated probability
    peak_threshold: float = 0.0  # on a node's highest probability; fainter nodes are dropped
    calibration: Calibration = UNCALIBRATED  # of the mean probability of all members, and of each one's
    crop: CropSpec = CropSpec()
    postprocess: PostProcessing = PostProcessing()
    window_step: float = 0.5  # distance of neighbouring windows, as a fraction of the patch
    mirror: int = 0  # flips that each window is averaged over, one of MIRRORINGS
    provenance: dict[str, Any] = field(default_factory=dict)
    sha256: dict[str, str] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def __post_init__(self) -> None:
        _check_numbers("patch", self.patch, 3)
        _check_numbers("spacing_mm", self.spacing_mm, 3)
        if not all(type(n) is int and n > 0 for n in self.patch) or math.prod(self.patch) > _MOST_PATCH:
            raise ValueError(f"A patch must be of 1 to {_MOST_PATCH:,} voxels, not {self.patch}")
        low, high = _SPACING_MM
        if not all(low <= s <= high for s in self.spacing_mm):
            raise ValueError(f"Spacings must be within {low:g} and {high:g} mm, not {self.spacing_mm}")
        if any(p % d for p, d in zip(self.patch, self.network.divisor, strict=True)):
            raise ValueError(f"Patch must be a multiple of {self.network.divisor}, not {self.patch}")
        if not 0 < self.threshold < 1:
            raise ValueError(f"Threshold must lie between 0 and 1, not {self.threshold}")
        if not 0 <= self.peak_threshold < 1:
            raise ValueError(f"Peak threshold must be at least 0 and below 1, not {self.peak_threshold}")
        if not _LEAST_STEP <= self.window_step <= 1:
            raise ValueError(f"Window step must be at least {_LEAST_STEP} and at most 1, not {self.window_step}")
        if not all(re.fullmatch("[0-9a-f]{64}", str(digest)) for digest in self.sha256.values()):
            raise ValueError("sha256 must hold 64 hex digits for each file")
        if self.members > 1 and not all(name in self.sha256 for name in self.files(WEIGHTS_NAME)):
            raise ValueError(f"The {self.members} members must be numbered without a gap")
        check_mirror(self.mirror)

    @property
    def members(self) -> int:
        """The number of networks."""
        return max(1, sum(kind_of_file(name) == WEIGHTS_NAME for name in self.sha256))

    def files(self, kind: str) -> list[str]:
        """The names of all members' files of a kind, whose name is that of the first member's file."""
        return [member_file(kind, member) for member in range(1, self.members + 1)]

    def first_members(self, count: int) -> ModelSpec:
        """The specification without the members after the first `count`. Raises ValueError where it has fewer."""
        if not 1 <= count <= self.members:
            raise ValueError(f"The number of members must be 1 to {self.members}, not {count}")
        others = {member_file(kind, n) for kind in _KINDS for n in range(count + 1, self.members + 1)}
        return dataclasses.replace(self, sha256={n: value for n, value in self.sha256.items() if n not in others})

    def joint_sha256(self, kind: str) -> str:
        """The hash that results name: that of the one member's file, or of all members' hashes, joined as text."""
        hashes = [self.sha256[name] for name in self.files(kind)]
        return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()

    @staticmethod
    def load(bundle: Path) -> ModelSpec:
        """Read `bundle/spec.json`. Raises BundleError where the file is missing, too new or not valid."""
        path = Path(bundle) / SPEC_NAME
        try:
            data = json.loads(path.read_text())
        except FileNotFoundError:
            raise BundleError(f"No model bundle in {bundle}: {SPEC_NAME} is missing") from None
        except (OSError, ValueError) as error:
            raise BundleError(f"{path} cannot be read: {error}") from None
        version = data.get("format_version") if isinstance(data, dict) else None
        if not isinstance(version, int):
            raise BundleError(f"{path} is not a model specification: it has no format_version")
        if version > CALIBRATED_VERSION:
            raise BundleError(
                f"The model bundle has format version {version}, this program reads up to {CALIBRATED_VERSION}: "
                "update it"
            )
        try:
            return from_plain(ModelSpec, data)
        except (TypeError, ValueError, KeyError) as error:
            raise BundleError(f"{path} is not a valid model specification: {error}") from None

    @staticmethod
    def load_single(bundle: Path) -> ModelSpec:
        """As `load`, for uses that can have one network alone. Raises BundleError where the bundle holds several."""
        spec = ModelSpec.load(bundle)
        if spec.members > 1:
            raise BundleError(f"The model bundle in {bundle} holds {spec.members} networks: one of a single is needed")
        return spec

    def save(self, bundle: Path) -> None:
        """Write `bundle/spec.json` atomically."""
        version = FORMAT_VERSION if self.members == 1 else ENSEMBLE_VERSION
        plain = dataclasses.asdict(self)
        if self.calibration.changes:
            version = CALIBRATED_VERSION
        else:
            del plain["calibration"]  # older programs read the rest
        plain |= {"format_version": version}
        write_text(Path(bundle) / SPEC_NAME, json.dumps(plain, indent=2) + "\n")

    def verified_bytes(self, bundle: Path, name: str) -> bytes:
        """The contents of a weight file. Raises BundleError unless their SHA-256 is the one in the specification.

        What is read once and checked is what is loaded: no file beside it, and no later change.
        """
        path = Path(bundle) / name
        wanted = self.hash_of(bundle, name)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise BundleError(f"The model bundle in {bundle} is incomplete: {name} is missing") from None
        except OSError as error:
            raise BundleError(f"{path} cannot be read: {error.strerror}") from None
        if hashlib.sha256(data).hexdigest() != wanted:
            raise BundleError(f"{path} was altered: its SHA-256 is not the one in {SPEC_NAME}")
        return data

    def hash_of(self, bundle: Path, name: str) -> str:
        """The SHA-256 that the specification lists for a weight file. Raises BundleError where it lists none."""
        if name not in self.sha256:
            raise BundleError(f"The model bundle in {bundle} does not list {name}: export the model again")
        return self.sha256[name]
