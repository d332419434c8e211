"""What this machine has of what a study may need."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from consciousness_cluster.engine.extras import EXTRAS, installed
from consciousness_cluster.engine.targets import organisms

KEYS = ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "TINKER_API_KEY", "OPENROUTER_API_KEY", "GOOGLE_API_KEY", "HF_TOKEN")


@dataclass(frozen=True)
class Finding:
    """One thing looked at, whether it is there, and what was found."""

    what: str
    good: bool
    found: str


def examine() -> list[Finding]:
    """Look at Python, packages, keys, organisms, disk and accelerator; nothing is loaded or sent."""
    found = [Finding("Python", sys.version_info[:2] == (3, 12), platform.python_version())]
    found.append(Finding("inspect-ai", True, metadata.version("inspect-ai")))
    for extra, modules in EXTRAS.items():
        missing = [name for name in modules if not installed(name)]
        found.append(Finding(f"extra '{extra}'", not missing, f"missing {', '.join(missing)}" if missing else "installed"))
    for key in KEYS:
        found.append(Finding(key, key in os.environ, "set" if key in os.environ else "not set (needed only for its provider)"))
    names = organisms()
    found.append(Finding("organisms", bool(names), ", ".join(names) or "none"))
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    found.append(Finding("free disk", free > 1, f"{free:.1f} GB"))
    gpu = shutil.which("nvidia-smi") is not None
    found.append(Finding("accelerator", gpu, "an NVIDIA driver is installed" if gpu else "none: local models run on the CPU"))
    return found
