"""Accelerators of this machine, without loading a library that knows them."""

from __future__ import annotations

import os
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"
NONE = "-1"


def accelerators(devices: Path = Path("/dev")) -> list[str]:
    """The accelerators that this process may use, as `CUDA_VISIBLE_DEVICES` names them; none on a machine without.

    Args:
        devices: folder where the system lists its devices.
    """
    visible = os.environ.get(VISIBLE)
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        return [name for name in names if name and name != NONE]
    numbers = (path.name.removeprefix("nvidia") for path in devices.glob("nvidia[0-9]*"))
    return sorted((number for number in numbers if number.isdigit()), key=int)
