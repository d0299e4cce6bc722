from __future__ import annotations

from pathlib import Path

import pytest

from lnq.pacs.spool import Spool


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    """An empty spool that takes all that finds room on the disk."""
    made = Spool(tmp_path / "spool", least_free_gb=0.0)
    made.make()
    made.tidy()
    return made
