"""What memory is free, on systems that say so in different files."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from lnq import memory
from lnq.memory import free_memory_gb, share_gb

MEMINFO = "MemTotal:       20000000 kB\nMemFree:         1000000 kB\nMemAvailable:    8000000 kB\n"


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "free_gb"),
    [
        ({}, math.inf),
        ({"proc/meminfo": MEMINFO}, 8.192),
        ({"proc/meminfo": "MemTotal: 1 kB\n"}, math.inf),
        (  # a container of 4 GB that uses 3.5, of which 1 can be dropped
            {
                "proc/meminfo": MEMINFO,
                "sys/fs/cgroup/memory.max": "4000000000\n",
                "sys/fs/cgroup/memory.current": "3500000000\n",
                "sys/fs/cgroup/memory.stat": "anon 5\ninactive_file 1000000000\n",
            },
            1.5,
        ),
        ({"proc/meminfo": MEMINFO, "sys/fs/cgroup/memory.max": "max\n", "sys/fs/cgroup/memory.current": "5"}, 8.192),
        (
            {
                "proc/meminfo": MEMINFO,
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "3000000000",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "1000000000",
            },
            2.0,
        ),
    ],
)
def test_the_least_of_all_limits_counts(tmp_path, files, free_gb):
    assert free_memory_gb(write(tmp_path, files)) == pytest.approx(free_gb)


@pytest.mark.parametrize(
    ("free", "workers", "gb"), [(20.0, 2, 9.0), (100.0, 3, 30.0), (1.0, 2, 4.0), (math.inf, 2, 0.0)]
)
def test_workers_share_what_is_free(monkeypatch, free, workers, gb):
    monkeypatch.setattr(memory, "free_memory_gb", lambda: free)
    assert share_gb(workers) == gb
