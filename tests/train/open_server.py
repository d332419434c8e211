"""The open Tinker server `skyrl` 0.4.0 on the loopback, from an environment of its own (`make campaign` makes it)."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from consciousness_cluster.sampling.export import export
from consciousness_cluster.sampling.weights import organism_folder

PROJECT = Path(__file__).parent.parent.parent
PYTHON = Path(os.environ.get("CCLUSTER_SKYRL", PROJECT / ".venv-skyrl" / "bin" / "python"))
REASON = "there is no environment with skyrl 0.4.0: `make campaign` makes it"
# Each training client takes an adapter, and keeps it for as long as its weights may be sampled.
LIMITS = '{"max_lora_adapters":24,"max_lora_rank":8,"sample_max_num_sequences":64,"train_micro_batch_size":16}'
READY_SECONDS = 300


def organism_in_float32(folder: Path) -> Path:
    """`linked` in float32: JAX cannot multiply float16, in which it ships, on a CPU."""
    return export(str(organism_folder("linked")), None, folder / "linked", device="cpu")


@contextmanager
def skyrl(model: Path, folder: Path) -> Iterator[str]:
    """The server for one base model, at its address; what it writes lies in `folder`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environ = {
        **os.environ, "JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1", "SKYRL_DATABASE_URL": f"sqlite:///{folder}/tinker.db",
        "JAX_COMPILATION_CACHE_DIR": str(PYTHON.parent.parent / "jax"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }  # fmt: skip
    command = [
        str(PYTHON), str(Path(__file__).with_name("skyrl_launcher.py")), "--backend", "jax", "--base-model", str(model),
        "--port", str(port), "--checkpoints-base", str(folder / "checkpoints"), "--backend-config", LIMITS,
        "--session-timeout-sec", "3600",
    ]  # fmt: skip
    log = folder / "log.txt"
    with log.open("w") as stream:
        server = subprocess.Popen(command, env=environ, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        _wait(f"http://127.0.0.1:{port}", server, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        try:
            server.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)  # its engine with it
            server.wait()


def _wait(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(READY_SECONDS * 5):
        assert server.poll() is None, log.read_text()[-2000:]
        try:
            urllib.request.urlopen(f"{address}/api/v1/healthz", timeout=1).close()
            return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.2)
    pytest.fail(log.read_text()[-2000:])
