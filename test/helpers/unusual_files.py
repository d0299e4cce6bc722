"""CTs that are segmented with a warning: how each is made, and how the warning begins."""

from __future__ import annotations

from collections.abc import Callable

from lnq.image.volume import Volume

MakeThorax = Callable[..., Volume]


def thick_slices(make_thorax: MakeThorax) -> Volume:
    ct = make_thorax()
    affine = ct.affine.copy()
    affine[:, 0] *= 2
    return Volume(ct.array[::2], affine)


def cut_field_of_view(make_thorax: MakeThorax) -> Volume:
    return make_thorax().crop((slice(None), slice(None), slice(18, None)))


def padded(make_thorax: MakeThorax) -> Volume:
    ct = make_thorax()
    array = ct.array.copy()
    array[:, :3] = -3024
    return ct.with_array(array)


UNUSUAL: dict[str, tuple[Callable[[MakeThorax], Volume], str]] = {
    "abdomen": (lambda make: make(lungs=0), "No lungs were found"),
    "one-lung": (lambda make: make(lungs=1), "Only one lung was found"),
    "plain": (lambda make: make(blood_hu=40), "No contrast medium seen"),
    "thick": (thick_slices, "Slices are 10 mm apart"),
    "cut": (cut_field_of_view, "The field of view cuts the lungs"),
    "padded": (padded, "Values down to -3024 HU were taken for padding"),
}
