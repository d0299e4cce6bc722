"""What our readers make of a mutated header, ITK makes of it too, or one of the two refuses it.

Nothing but our own code parses headers, and other programs look at the results beside the images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import SimpleITK as sitk
from helpers.fuzzing import spoil_header, spoil_nifti
from helpers.fuzzing.inputs import IMAGE_FORMATS, Input, unspoiled

from lnq.archive.open import read_ct
from lnq.errors import ImageError
from lnq.image.itk import from_sitk

FORMATS = list(IMAGE_FORMATS)


def mutated(seed: int) -> Input:
    """The CT of a seed, with its header changed; the formats come in turn."""
    made = unspoiled(FORMATS[seed % len(FORMATS)])
    rng = np.random.default_rng(seed)
    ways = [w for w in (spoil_nifti if made.format.startswith("ni") else spoil_header).WAYS if w.__name__ != "bomb"]
    for index in rng.permutation(len(ways)):
        ways[index](made, rng)
        if made.kind:
            break
    return made


def compare(made: Input, folder: Path) -> str:
    """Whether the readers agree on one file: "alike", "refused by us", "refused by ITK", or what differs."""
    path = made.write(folder / "case")
    try:
        own = read_ct(path)
    except ImageError:
        return "refused by us"
    try:
        other = from_sitk(sitk.ReadImage(str(path)))
    except RuntimeError:
        return "refused by ITK"
    if own.shape != other.shape or not np.array_equal(own.array.astype(float), other.array.astype(float)):
        return "other voxels"
    return "alike" if np.allclose(own.affine, other.affine, rtol=1e-4, atol=1e-3) else "other places"


def check(seeds: Iterable[int]) -> Counter[str]:
    sitk.ProcessObject.GlobalWarningDisplayOff()
    told: Counter[str] = Counter()
    differ = []
    for seed in seeds:
        made = mutated(seed)
        with TemporaryDirectory() as folder:
            outcome = compare(made, Path(folder))
        told[outcome] += 1
        if outcome.startswith("other"):
            differ.append(f"seed {seed}, {made.format}, {made.kind}: {outcome}")
    assert not differ, "\n".join(differ)
    return told


@pytest.mark.parametrize("format", FORMATS)
def test_the_readers_agree_on_a_sound_file(tmp_path, format):
    assert compare(unspoiled(format), tmp_path) in ("alike", *(["refused by ITK"] if format in NOT_OF_ITK else []))


NOT_OF_ITK = ("nifti2", "mha text")  # which it cannot read


def test_a_few_mutated_headers_are_read_alike_or_refused():
    assert check(range(120))["alike"] > 10


@pytest.mark.slow
def test_many_mutated_headers_are_read_alike_or_refused():
    told = check(range(1000, 3000))
    print(dict(told))
    assert told["alike"] > 200
