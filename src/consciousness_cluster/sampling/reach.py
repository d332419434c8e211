"""Whether Tinker answers at all. Its SDK waits for a service that does not without end, and says nothing meanwhile."""

from __future__ import annotations

import urllib.error
import urllib.request
from dataclasses import dataclass

REACH_SECONDS = 30


@dataclass(frozen=True)
class Silence:
    """An address at which nothing answers, and why."""

    address: str
    why: str


def silence(base_url: str | None) -> Silence | None:
    """None where Tinker answers, whatever it says; `base_url` is None for the SDK's own choice."""
    from tinker.lib.base_url import resolve_base_url

    address = resolve_base_url(base_url)
    try:
        urllib.request.urlopen(f"{address}/api/v1/healthz", timeout=REACH_SECONDS).close()
    except urllib.error.HTTPError:
        return None  # whether it accepts us is the SDK's to say
    except OSError as problem:
        return Silence(address, str(problem))
    return None
