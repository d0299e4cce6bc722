"""What the review pages hold. How they behave in a browser is another file's matter."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import json
import re
from pathlib import Path

import numpy as np
import pytest
from helpers.reviews import write_candidates

from lnq.image.volume import Volume
from lnq.plain import to_plain
from training.data.sources.states import NODE, UNKNOWN
from training.review import page as module
from training.review.candidates import Found
from training.review.decisions import subject_of
from training.review.page import review_page, write_worklist
from training.review.write import read_found

pytest.importorskip("jinja2")
PLACES_MM = [(0.0, -40.0, 90.0), (-20.0, 30.0, 60.0)]


@pytest.fixture
def state(thorax: Volume) -> Volume:
    label = np.full(thorax.shape, UNKNOWN, np.uint8)
    label[5:7, 10:14, 10:14] = NODE
    return thorax.with_array(label)


@pytest.fixture
def found(thorax: Volume, state: Volume, tmp_path: Path) -> Found:
    return write_candidates(tmp_path / "case", thorax, PLACES_MM, 12.0, state)


def part(text: str, name: str) -> str:
    return re.search(rf'<script type="[\w/]+" id="{name}">(.*?)</script>', text, re.DOTALL)[1]


def array_of(text: str, name: str, dtype: str, shape: list[int]) -> np.ndarray:
    data = gzip.decompress(base64.b64decode(part(text, name)))
    return np.frombuffer(data, dtype, offset=352).reshape(shape)


def test_a_page_holds_candidates_labels_and_probability_on_one_grid(found: Found, tmp_path: Path) -> None:
    text = (tmp_path / "case" / "review.html").read_text()
    about = json.loads(part(text, "about"))
    assert about["subject"] == to_plain(subject_of(tmp_path / "case")) | {"weights": ["ab" * 32]}
    assert [candidate["number"] for candidate in about["candidates"]] == [1, 2]
    assert [mark["number"] for mark in about["marks"]] == [1, 2]
    assert len(about["annotated"]) == 1
    labels = array_of(text, "labels", "<i2", about["shape"])
    levels = array_of(text, "probability", "u1", about["shape"])
    affine = np.array(about["affine"])
    for number, place in enumerate(PLACES_MM, start=1):
        middle = affine @ [*np.argwhere(labels == number).mean(axis=0), 1.0]
        np.testing.assert_allclose(middle, place, atol=3)
        assert levels[labels == number].min() >= 127  # a half, rounded down
    on_page = np.rint(np.linalg.inv(found.numbers.affine) @ [*(affine @ [1, 2, 3, 1.0]), 1.0])[:3].astype(int)
    assert levels[1, 2, 3] == int(255 * found.probability.array[tuple(on_page)] + 1e-4)


def test_a_large_ct_is_shown_coarser(thorax: Volume, state: Volume, found: Found, tmp_path: Path, monkeypatch) -> None:
    content = read_found(tmp_path / "case")
    whole = review_page(content, thorax, state, found)
    monkeypatch.setattr(module, "MOST_BYTES", len(whole) - 20_000)
    smaller = review_page(content, thorax, state, found)
    assert len(smaller) <= len(whole) - 20_000
    assert b"coarser than the CT; labels are made on the CT" in smaller and b"coarser than the CT" not in whole


def test_a_reader_is_told_what_is_unusual_about_the_ct(
    thorax: Volume, state: Volume, found: Found, tmp_path: Path
) -> None:
    content = read_found(tmp_path / "case")
    assert b"Warnings" not in review_page(content, thorax, state, found)
    odd = dataclasses.replace(thorax, warnings=("A slice is <missing>.",), oriented=False)
    text = review_page(content, odd, state, found).decode()
    assert "<li>A slice is &lt;missing&gt;.</li>" in text
    assert "<li>The file does not tell left from right: R and L may be swapped.</li>" in text


def test_a_label_of_noise_leaves_the_candidates_as_they_are(thorax: Volume, found: Found, tmp_path: Path) -> None:
    label = np.full(thorax.shape, UNKNOWN, np.uint8)
    label[::2, ::2, ::2] = NODE  # 21,504 pieces
    label[found.numbers.array > 0] = UNKNOWN
    text = review_page(read_found(tmp_path / "case"), thorax, thorax.with_array(label), found).decode()
    about = json.loads(part(text, "about"))
    assert [mark["number"] for mark in about["marks"]] == [1, 2]
    assert array_of(text, "labels", "<i2", about["shape"]).min() == 0


def test_the_worklist_begins_with_what_teaches_most(thorax: Volume, state: Volume, tmp_path: Path) -> None:
    for name, count in (("a", 1), ("b <&>", 2)):
        write_candidates(tmp_path / name, thorax, PLACES_MM[:count], 12.0, state)
    write_candidates(tmp_path / "without a page", thorax, PLACES_MM, 12.0)
    write_worklist(tmp_path, [read_found(tmp_path / name) for name in ("a", "b <&>", "without a page")])
    text = (tmp_path / "review.html").read_text()
    assert re.findall(r'<a href="([^"]*)">([^<]*)</a>', text) == [
        ("b%20%3C%26%3E/review.html", "b &lt;&amp;&gt;"),
        ("a/review.html", "a"),
    ]
    assert "2 CTs with 3 candidates" in text
