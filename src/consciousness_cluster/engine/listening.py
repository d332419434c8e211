"""Whether anybody listens at the addresses that a study is asked at: known before anything is trained or asked."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

from consciousness_cluster.engine.addresses import address_of
from consciousness_cluster.errors import ModelError
from consciousness_cluster.study.models import helpers
from consciousness_cluster.study.study import Study

WAIT_SECONDS = 5
PORTS = {"http": 80, "https": 443}


def check_listening(study: Study) -> None:
    """Refuse a study whose model has an address that refuses connections. One that does not answer at all may be behind a proxy.

    Raises:
        ModelError: nothing listens there.
    """
    for key, model, address in _asked_at(study):
        parts = urlsplit(address)
        try:
            with socket.create_connection((parts.hostname or "", parts.port or PORTS.get(parts.scheme, 80)), WAIT_SECONDS):
                pass
        except ConnectionRefusedError:
            raise ModelError(
                f"nothing listens at {address}, where {model} is to be asked",
                key=key,
                value=address,
                next_step="start the server, or correct the address: args.base_url, or the environment's",
            ) from None
        except (OSError, ValueError):  # whoever asks there says more of it
            continue


def _asked_at(study: Study) -> Iterator[tuple[str, str, str]]:
    """Key, model and address of every model that has an address in the study or in the environment."""
    for key, model, args in (*(("models", entry.model, entry.args) for entry in study.models), *helpers(study)):
        address = args.get("base_url") or address_of(model, args)
        if address:
            yield key, model, str(address)
