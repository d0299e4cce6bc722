"""What the tests of the review page share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.review_pages import ANNOTATED_MM, MISSED_MM, PLACES_MM, RADIUS_MM
from helpers.reviews import bump, write_candidates

from lnq.image.volume import Volume
from training.data.sources.states import NODE, UNKNOWN
from training.review.candidates import Found
from training.review.page import write_worklist
from training.review.write import read_found


@pytest.fixture
def shown(thorax: Volume, tmp_path: Path) -> Found:
    """Three candidates, one place that networks see a little, and one annotated node."""
    state = np.full(thorax.shape, UNKNOWN, np.uint8)
    state[bump(thorax, ANNOTATED_MM, 8.0) >= 0.5] = NODE
    found = write_candidates(tmp_path / "case", thorax, PLACES_MM, RADIUS_MM, thorax.with_array(state), (MISSED_MM,))
    write_worklist(tmp_path, [read_found(tmp_path / "case")])
    return found
