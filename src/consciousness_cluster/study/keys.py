"""Where keys are read from: the environment, and a file `.env`."""

from __future__ import annotations

import os
from pathlib import Path


def key_file() -> Path | None:
    """The `.env` file that keys are read from: the nearest, from the folder that the command is given in upwards."""
    from dotenv import find_dotenv

    found = find_dotenv(usecwd=True)
    return Path(found) if found else None


def environment() -> dict[str, str]:
    """The process's environment over what `key_file` says; nothing is exported."""
    from dotenv import dotenv_values

    file = key_file()
    kept = {name: value for name, value in dotenv_values(file).items() if value} if file is not None else {}
    return {**kept, **os.environ}
