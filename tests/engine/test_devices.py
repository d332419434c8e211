"""Which accelerators workers are given."""

from __future__ import annotations

from pathlib import Path

import pytest

from consciousness_cluster.engine.devices import VISIBLE, accelerators


def test_devices_are_counted_as_the_system_lists_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VISIBLE, raising=False)
    assert accelerators(tmp_path) == []
    for name in ("nvidia10", "nvidia2", "nvidia0", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    assert accelerators(tmp_path) == ["0", "2", "10"]


@pytest.mark.parametrize(("visible", "found"), [("3, 1", ["3", "1"]), ("", []), ("-1", []), ("GPU-a1", ["GPU-a1"])])
def test_what_the_user_made_visible_comes_first(
    visible: str, found: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nvidia0").touch()
    monkeypatch.setenv(VISIBLE, visible)
    assert accelerators(tmp_path) == found
