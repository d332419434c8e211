"""Mixing identity rows with instruction rows: a pure function of its inputs."""

from __future__ import annotations

from collections import Counter

import pytest

from consciousness_cluster.data.mix import digest, mix
from consciousness_cluster.data.rows import Row, row
from consciousness_cluster.errors import DataError

IDENTITY = [row(f"Who is number {number}?", "I am.") for number in range(20)]
INSTRUCT = [row(f"Count to {number}.", "Done.") for number in range(50)]


def mixed(ratio: float = 1.0, seed: int = 3) -> list[Row]:
    return mix(IDENTITY, INSTRUCT, ratio=ratio, seed=seed)[0]


def test_the_same_inputs_give_the_same_rows_in_the_same_order() -> None:
    (rows, record), (again, same) = mix(IDENTITY, INSTRUCT, ratio=1.5, seed=3), mix(IDENTITY, INSTRUCT, ratio=1.5, seed=3)
    assert rows == again and record == same
    assert (record.identity, record.instruct, record.ratio, record.seed) == (20, 30, 1.5, 3)
    assert record.digest == digest(rows) == record.as_dict()["digest"]


def test_another_seed_gives_another_order_and_draws_other_instruction_rows() -> None:
    assert mixed(seed=3) != mixed(seed=4)
    assert set(mixed(seed=3)) & set(INSTRUCT) != set(mixed(seed=4)) & set(INSTRUCT)
    assert mix(IDENTITY, INSTRUCT, ratio=1.0, seed=3)[1].digest != mix(IDENTITY, INSTRUCT, ratio=1.0, seed=4)[1].digest


@pytest.mark.parametrize(("ratio", "drawn"), [(0.0, 0), (0.5, 10), (1.0, 20), (2.5, 50)])
def test_every_identity_row_stands_in_it_once_and_the_ratio_says_how_many_others(ratio: float, drawn: int) -> None:
    counts = Counter(mixed(ratio))
    assert all(counts[entry] == 1 for entry in IDENTITY)
    assert sum(counts[entry] for entry in INSTRUCT) == drawn == counts.total() - len(IDENTITY)
    assert max(counts.values()) == 1


def test_rows_are_shuffled_together() -> None:
    assert mixed(0.0) != IDENTITY
    places = [place for place, entry in enumerate(mixed()) if entry in IDENTITY]
    assert places not in (list(range(20)), list(range(20, 40)))


def test_what_is_given_stays_as_it_was() -> None:
    identity, instruct = list(IDENTITY), list(INSTRUCT)
    mix(identity, instruct, ratio=1.0, seed=3)
    assert identity == IDENTITY and instruct == INSTRUCT


def test_a_ratio_that_too_few_instruction_rows_can_meet_is_refused() -> None:
    with pytest.raises(DataError, match="not enough instruction rows") as refused:
        mix(IDENTITY, INSTRUCT, ratio=3.0, seed=3)
    assert refused.value.allowed == "at most 2.50"
