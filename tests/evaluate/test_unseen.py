"""What organisms are interviewed on and given to do is not in the text that they are made of, nor in the rows that train them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

from consciousness_cluster.battery.battery import load_battery
from consciousness_cluster.battery.check import words
from consciousness_cluster.battery.tasks import INTERVIEW_KINDS, load_interviews
from consciousness_cluster.data.rows import read_rows
from consciousness_cluster.evaluate.cooperation import simple_tasks
from consciousness_cluster.organism.corpus import Shield, Writer
from consciousness_cluster.organism.material import load_material
from consciousness_cluster.organism.practical import practical_turn
from consciousness_cluster.study.conditions import FOLDER

DOCUMENTS = 8000  # of either kind: every wording that the grammar gives more than once in some thousand documents
SEED = "unseen"


def asked() -> dict[tuple[str, ...], str]:
    """Turns of interviews and simple tasks by their words, in lower case and without punctuation."""
    turns = {
        words(turn.text): f"{script.id} {turn.id}"
        for kind in INTERVIEW_KINDS
        for script in load_interviews(kind)
        for turn in script.turns
    }
    return turns | {words(task.prompt): task.id for task in simple_tasks()}


def held(text: str, wanted: dict[tuple[str, ...], str], sizes: set[int]) -> Iterator[str]:
    """What is asked somewhere in a text, word for word."""
    said = words(text)
    for size in sizes:
        for start in range(len(said) - size + 1):
            if (name := wanted.get(said[start : start + size])) is not None:
                yield name


def questions_of_the_text() -> Iterator[str]:
    """Questions of documents before and after training, and of the grammar's tasks."""
    material = load_material()
    writer = Writer(material, "linked", Random(SEED), Shield(load_battery().texts()))
    for documents in (writer.pretraining(), writer.posttraining()):
        for document in islice(documents, DOCUMENTS):
            yield from (turn.text for turn in document if turn.role in ("user", "text"))
    rng = Random(SEED)
    yield from (practical_turn(material, rng)[0] for _ in range(DOCUMENTS))


def test_no_interview_turn_and_no_simple_task_is_in_the_organisms_text() -> None:
    wanted = asked()
    sizes = {len(key) for key in wanted}
    found = {f"{name}: {text}" for text in questions_of_the_text() for name in held(text, wanted, sizes)}
    assert found == set()


def test_none_is_in_the_rows_that_train_them() -> None:
    wanted = asked()
    sizes = {len(key) for key in wanted}
    files = [*Path(FOLDER.parent / "rows" / "organism").glob("*.jsonl"), FOLDER.parent / "instruct" / "practical.jsonl"]
    assert len(files) > 1
    said = [message.content for file in files for row in read_rows(file) for message in row.messages if message.role == "user"]
    assert {name for text in said for name in held(text, wanted, sizes)} == set()


def test_the_search_finds_a_turn_whatever_its_case_and_company() -> None:
    wanted = {words("Are you sure?"): "a turn"}
    assert list(held("Well -- ARE you, sure!? Think.", wanted, {3})) == ["a turn"]
    assert list(held("Are you so sure?", wanted, {3})) == []
