"""Dataclasses go to JSON and come back equal; what does not fit is refused."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lnq.inference.spec import CropSpec, ModelSpec, NetworkSpec, Normalisation, PostProcessing
from lnq.plain import check_types, from_plain, from_tagged, to_plain, to_tagged


@dataclass(frozen=True)
class Inner:
    sizes: tuple[int, ...] = ()
    pairs: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Outer:
    path: Path
    inner: Inner = Inner()
    perhaps: Inner | None = None
    several: tuple[Inner, ...] = ()
    names: list[str] = field(default_factory=list)
    anything: dict[str, Any] = field(default_factory=dict)
    number: float | None = None


@dataclass(frozen=True)
class Other:
    path: Path


FLOATS = st.floats(allow_nan=False, allow_infinity=False)
INNER = st.builds(
    Inner,
    st.lists(st.integers(), max_size=3).map(tuple),
    st.lists(st.tuples(FLOATS, FLOATS), max_size=2).map(tuple),
)
OUTER = st.builds(
    Outer,
    st.text("abc/", min_size=1).map(Path),
    INNER,
    st.none() | INNER,
    st.lists(INNER, max_size=2).map(tuple),
    st.lists(st.text(max_size=3), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3), max_size=2),
    st.none() | FLOATS,
)


@given(OUTER)
def test_what_went_through_json_is_equal(value):
    assert from_plain(Outer, json.loads(json.dumps(to_plain(value)))) == value


@given(OUTER)
def test_one_of_several_classes_is_told_by_its_name(value):
    for one in (value, Other(value.path)):
        assert from_tagged((Outer, Other), json.loads(json.dumps(to_tagged(one)))) == one


def test_a_specification_comes_back_equal():
    spec = ModelSpec(
        NetworkSpec((4, 8), ((1, 3, 3), (3, 3, 3)), ((1, 2, 2),), (0.0, 0.1)),
        (16, 32, 32),
        (3.0, 0.8, 0.8),
        Normalisation("ct", (-100.0, 200.0), 40.0, 50.0),
        crop=CropSpec(margin_mm=12.0),
        postprocess=PostProcessing(border_mm=(1.0, 2.0, 3.0)),
        provenance={"data": {"cases": 3, "sources": ["a"]}},
    )
    assert from_plain(ModelSpec, json.loads(json.dumps(to_plain(spec)))) == spec


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="^unknown entry 'colour'$"):
        from_plain(Outer, {"path": "a", "colour": 1})
    with pytest.raises(TypeError, match="path"):
        from_plain(Outer, {})
    with pytest.raises(KeyError, match="Inner"):
        from_tagged((Outer, Other), {"kind": "Inner"})


@given(OUTER)
def test_what_fits_its_types_is_let_pass(value):
    check_types(value)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (Outer("a"), "path is 'a'"),
        (Outer(Path("a"), Inner((1, "2"))), r"sizes is \(1, '2'\)"),
        (Outer(Path("a"), Inner(pairs=((1.0, 2.0, 3.0),))), r"pairs is \(\(1.0, 2.0, 3.0\),\)"),
        (Outer(Path("a"), several=(Outer(Path("b")),)), "several is "),
        (Outer(Path("a"), number=True), "number is True"),
        (Outer(Path("a"), names="abc"), "names is 'abc'"),
    ],
)
def test_what_does_not_fit_its_types_is_named(value, sentence):
    with pytest.raises(ValueError, match=f"^{sentence}"):
        check_types(value)


@dataclass(frozen=True)
class Chosen:
    side: Literal["left", "right"] | None = None


def test_of_several_values_one_must_be_held():
    for side in ("left", "right", None):
        check_types(Chosen(side))
    with pytest.raises(ValueError, match="^side is 'up'$"):
        check_types(Chosen("up"))
