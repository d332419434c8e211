"""The manifest: what made this run. Written last, so its presence means that the run is complete."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from consciousness_cluster import __version__
from consciousness_cluster.engine.addresses import addresses
from consciousness_cluster.engine.folder import RunFolder, whole_file
from consciousness_cluster.study.models import OWN
from consciousness_cluster.study.study import Study, study_hash

PACKAGES = (
    "inspect-ai",
    "inspect-petri",
    "inspect-evals",
    "torch",
    "transformers",
    "peft",
    "numpy",
    "scipy",
    "pandas",
    "openai",
    "tinker",
)


def write_manifest(folder: RunFolder, study: Study, extra: dict[str, Any]) -> None:
    """Write `manifest.json`: versions, hashes, seeds, git state, where the environment moved models to, and whatever the run adds."""
    files = sorted(path for path in folder.root.rglob("*") if path.is_file() and _counts(path, folder.root))
    moved = sorted({address for entry in study.models for address in addresses(study, entry)})
    content = {
        "study": study.name,
        "study_hash": study_hash(study),
        "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "version": __version__,
        "git": git_state(Path(__file__).parent),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "packages": _versions(PACKAGES),
        "seeds": list(study.seeds),
        **({"addresses": moved} if moved else {}),
        **extra,
        "files": {str(path.relative_to(folder.root)): _digest(path) for path in files},
    }
    with whole_file(folder.manifest) as part:
        part.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _counts(path: Path, root: Path) -> bool:
    top = path.relative_to(root).parts[0]
    return top in ("data", "arms", "logs", "labels", "tables", "study.toml", OWN) and not path.name.endswith(".part")


def _versions(names: Sequence[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def git_state(place: Path) -> dict[str, Any] | None:
    """Commit and whether files differ from it; None outside a repository."""
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=place, capture_output=True, text=True, check=True, timeout=10)
        dirty = subprocess.run(
            ["git", "status", "--porcelain"], cwd=place, capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return {"commit": commit.stdout.strip(), "dirty": bool(dirty.stdout.strip())}
