"""How much memory this process may still take."""

from __future__ import annotations

import math
import os
from pathlib import Path


def available_memory(root: Path = Path("/")) -> float:
    """Return the bytes that this process can still use without swapping or being killed: the least of what the machine has free or can
    free at once, what its control groups (both versions, all levels) leave, and its address space limit; infinity where nobody says.

    Parameters
    ----------
    root
        Where proc and sys are found.
    """
    return min(_machine(root), *_groups(root), _address_space(root))


def _machine(root: Path) -> float:
    for line in _lines(root / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            return float(line.split()[1]) * 1024.0
    return math.inf


def _groups(root: Path) -> list[float]:
    found = [math.inf]
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            base, limit, used, stat = root / "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file "
        elif "memory" in controllers.split(","):
            base, limit, used, stat = (
                root / "sys/fs/cgroup/memory",
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file ",
            )
        else:
            continue
        folder = base / group.strip().lstrip("/")
        for level in (folder, *folder.parents):
            most, now = _number(level / limit), _number(level / used)
            cache = [float(x.split()[1]) for x in _lines(level / "memory.stat") if x.startswith(stat)]  # dropped under pressure
            if most < 2.0**60:  # version 1 writes a huge number for no limit
                found.append(max(0.0, most - min(now, most) + sum(cache)))
            if level == base:
                break
    return found


def _address_space(root: Path) -> float:
    try:
        import resource
    except ImportError:  # not a POSIX system
        return math.inf
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = _lines(root / "proc/self/statm")
    if limit == resource.RLIM_INFINITY or not pages:
        return math.inf
    return max(0.0, float(limit) - float(pages[0].split()[0]) * os.sysconf("SC_PAGE_SIZE"))


def _number(path: Path) -> float:
    text = "".join(_lines(path)).strip()
    return float(text) if text.isdigit() else math.inf


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


__all__ = ["available_memory"]
