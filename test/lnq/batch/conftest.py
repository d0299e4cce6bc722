from pathlib import Path

import pytest
from helpers.batch_runs import write_cases


@pytest.fixture
def archive_of_cases(tmp_path, thorax) -> Path:
    """A folder of a few CTs and a broken one."""
    return write_cases(tmp_path / "in", thorax)
