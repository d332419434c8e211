"""What this machine has of what a study may need."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from consciousness_cluster.engine.extras import EXTRAS, installed
from consciousness_cluster.engine.targets import organisms
from consciousness_cluster.study.keys import environment, key_file

KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "TINKER_API_KEY", "OPENROUTER_API_KEY", "GOOGLE_API_KEY", "HF_TOKEN")


@dataclass(frozen=True)
class Finding:
    """One thing looked at, whether it is there, and what was found."""

    what: str
    good: bool
    found: str


def _source(key: str, kept: Mapping[str, str], file: Path | None) -> str:
    """Where a key is set; what is exported comes before what a file says."""
    if os.environ.get(key):
        return "set in the environment"
    return f"set in {file}" if kept.get(key) else "not set (needed only for its provider)"


def examine() -> list[Finding]:
    """Look at Python, packages, keys, organisms, disk and accelerator; nothing is loaded or sent."""
    found = [Finding("Python", sys.version_info[:2] == (3, 12), platform.python_version())]
    found.append(Finding("inspect-ai", True, metadata.version("inspect-ai")))
    for extra, modules in EXTRAS.items():
        missing = [name for name in modules if not installed(name)]
        found.append(Finding(f"extra '{extra}'", not missing, f"missing {', '.join(missing)}" if missing else "installed"))
    file = key_file()
    kept = environment()
    for key in KEYS:
        found.append(Finding(key, bool(kept.get(key)), _source(key, kept, file)))
    found.append(Finding(".env", file is not None, str(file) if file else "none in this folder or one above it"))
    names = organisms()
    found.append(Finding("organisms", bool(names), ", ".join(names) or "none"))
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    found.append(Finding("free disk", free > 1, f"{free:.1f} GB"))
    gpu = shutil.which("nvidia-smi") is not None
    found.append(Finding("accelerator", gpu, "an NVIDIA driver is installed" if gpu else "none: local models run on the CPU"))
    return found
