"""How much memory this process may use: what is free on the machine, or what its control group leaves it."""

from __future__ import annotations

import math
from pathlib import Path

_GROUPS = (  # limit and use of a control group, as a container sees its own
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
        "/sys/fs/cgroup/memory/memory.stat",
    ),
)
_SHARE = 0.9  # of what is free, for all cases together
_LEAST_GB = 4.0  # that a case gets however little is free: large CTs need about so much


def free_memory_gb(root: Path = Path("/")) -> float:
    """Free memory in 1e9 bytes; infinity where it is not known. `root` holds the system's files."""
    free = [_field(root / "proc/meminfo", "MemAvailable:") * 1024]
    for limit, used, stat in _GROUPS:
        most, now = (_number(root / name.lstrip("/")) for name in (limit, used))
        cache = _field(root / stat.lstrip("/"), "inactive_file")  # can be dropped at any time
        free.append(most - now + (cache if math.isfinite(cache) else 0.0))
    known = [size for size in free if math.isfinite(size)]
    return max(0.0, min(known)) / 1e9 if known else math.inf


def share_gb(workers: int) -> float:
    """What each of so many workers may take, in 1e9 bytes, rounded to 0.1; 0 where that is not known."""
    free = free_memory_gb()
    return max(_LEAST_GB, round(_SHARE * free / workers, 1)) if math.isfinite(free) else 0.0


def _number(path: Path) -> float:
    try:
        return float(path.read_text())
    except (OSError, ValueError):  # "max" where there is no limit
        return math.inf


def _field(path: Path, name: str) -> float:
    """The number after a name at the start of a line; infinity where there is none."""
    try:
        words = next(line.split() for line in path.read_text().splitlines() if line.startswith(name))
        return float(words[1])
    except (OSError, ValueError, StopIteration, IndexError):
        return math.inf
