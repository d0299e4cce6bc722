"""Domains of phantoms: the usual ones stay as they are, the others differ in what they say."""

from __future__ import annotations

import dataclasses
import inspect

import numpy as np
import pytest
from scipy import ndimage

from phantom import make_phantom
from phantom.domain import DOMAINS, SHIFTED_SLICES_MM, shift_patient, shift_scanner, slice_mm_of, structures_of
from phantom.make import PARTS, SLICE_MM, Phantom, draw_grid
from phantom.patient import draw_patient
from phantom.physics import draw_scanner

IN_PLANE = np.ones((1, 3, 3), bool)
COARSE = {"spacing_mm": (4.0, 2.0, 2.0), "size": (70, 176, 176)}


@pytest.fixture(scope="module")
def phantoms() -> dict[str, Phantom]:
    return {domain: make_phantom(11, **COARSE, phase="none", domain=domain) for domain in DOMAINS}


def test_the_usual_domain_is_the_default_and_changes_nothing() -> None:
    assert inspect.signature(make_phantom).parameters["domain"].default == "usual"
    patient, rng = draw_patient(np.random.default_rng(0)), np.random.default_rng(1)
    scanner = draw_scanner(rng, 3.0)
    assert shift_patient(patient, "usual", rng) is patient and shift_scanner(scanner, "usual", rng) is scanner
    assert slice_mm_of("usual", 2.5, rng) == 2.5 and structures_of("usual", patient, rng) == ([], [])


def test_domains_show_one_patient_and_say_which_they_are(phantoms: dict[str, Phantom]) -> None:
    usual = phantoms["usual"]
    for domain, phantom in phantoms.items():
        assert phantom.info.domain == domain
        assert (phantom.info.phase, phantom.info.scale) == (usual.info.phase, usual.info.scale)
        if domain != "usual":
            differs = np.abs(phantom.ct.array.astype(int) - usual.ct.array) > 60
            assert 0.002 < differs.mean() < 0.3


def test_slices_of_the_shifted_domain_are_never_trained_on() -> None:
    rng = np.random.default_rng(0)
    drawn = {slice_mm_of("shifted", 3.0, rng) for _ in range(50)}
    assert drawn == set(SHIFTED_SLICES_MM) and not drawn & {mm for mm, _ in SLICE_MM}
    streams = {part: np.random.default_rng(3) for part in PARTS}
    spacing, _ = draw_grid(draw_patient(streams["patient"]), streams, None, 48, "shifted")
    assert spacing[0] in SHIFTED_SLICES_MM


@pytest.mark.parametrize("seed", range(20))
def test_kernels_of_the_shifted_domain_are_softer_or_sharper_than_all_others(seed: int) -> None:
    usual = [draw_scanner(np.random.default_rng(i), 2.5) for i in range(300)]
    scanner = shift_scanner(usual[0], "shifted", np.random.default_rng(seed))
    soft = scanner.blur_mm > max(one.blur_mm for one in usual) and scanner.overshoot == 0
    sharp = scanner.overshoot > max(one.overshoot for one in usual)
    assert soft != sharp and (soft or scanner.noise_hu > max(one.noise_hu for one in usual))


def test_contrast_of_the_shifted_domain_is_late_dense_or_none() -> None:
    for seed in range(6):
        rng = np.random.default_rng(seed)
        late, dense, none = (
            shift_patient(draw_patient(rng, p), "shifted", rng) for p in ("venous", "arterial", "none")
        )
        blood = [late.hu[name] for name in ("aorta", "svc", "pulmonary_artery", "left_heart")]
        assert max(blood) - min(blood) < 25 and 80 < np.mean(blood) < 140
        assert dense.hu["aorta"] > 400 and none.hu["aorta"] < 60


@pytest.mark.parametrize("domain", ["mimics", "shifted"])
def test_no_node_lies_in_what_a_domain_adds(phantoms: dict[str, Phantom], domain: str) -> None:
    """Nodes fill fat: their own tissue is in the image, whatever lies around them."""
    phantom = phantoms[domain]
    for node in phantom.info.nodes:
        if node.short_axis_mm >= 8 and node.kind == "plain":
            inside = phantom.ct.array[ndimage.binary_erosion(phantom.nodes.array == node.label, IN_PLANE)]
            assert abs(np.median(inside) - node.hu) < 25, node


def test_every_patient_of_the_shifted_domain_has_two_or_three_variants() -> None:
    names: set[str] = set()
    for seed in range(30):
        patient = dataclasses.replace(draw_patient(np.random.default_rng(seed)))
        before, after = structures_of("shifted", patient, np.random.default_rng(seed))
        assert not before and 2 <= len(after) <= 3 + 2  # a hernia has a wall, and may have air
        names |= {structure.name for structure in after}
    assert {"left svc", "aberrant subclavian artery", "azygos continuation", "aneurysm", "hernia", "goitre"} <= names
