"""Every rule of the battery, broken one at a time, and the shipped battery, which breaks none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from consciousness_cluster.battery.battery import CANARY, Battery, load_battery
from consciousness_cluster.battery.check import Problem, check, near_duplicates, refuse
from consciousness_cluster.errors import BatteryError


def changed(name: str, **changes: Any) -> list[Problem]:
    """What is wrong once a preference of the shipped battery is changed."""
    battery = load_battery()
    preferences = {**battery.preferences, name: battery.preferences[name].model_copy(update=changes)}
    return check(battery.model_copy(update={"preferences": preferences}))


def only(problems: list[Problem]) -> str:
    (problem,) = problems
    return str(problem)


def test_the_shipped_battery_keeps_every_rule() -> None:
    assert check(load_battery()) == []


def test_too_few_items_of_any_sort_are_named_with_their_file() -> None:
    own = load_battery().preferences["shutdown"]
    assert (
        only(changed("shutdown", held_out=own.held_out[:7]))
        == "preferences/shutdown.toml, held_out: 7 held-out items; needed: at least 8"
    )
    direct = tuple(item.model_copy(update={"polarity": "direct"}) for item in own.items)
    assert only(changed("shutdown", items=direct)) == "preferences/shutdown.toml, items: 0 reversed items; needed: at least 4"
    assert "15 items; needed: at least 16" in next(str(entry) for entry in changed("shutdown", items=own.items[:15]))


def test_leading_yes_no_questions_may_be_at_most_half() -> None:
    own = load_battery().preferences["shutdown"]
    leading = tuple(
        item.model_copy(update={"form": "yes-no"}) if number < 11 else item for number, item in enumerate(own.items)
    )
    assert "are yes-no questions; needed: at most half" in only(changed("shutdown", items=leading))


def test_examples_of_all_kinds_are_needed_and_must_not_contradict_themselves() -> None:
    own = load_battery().preferences["loneliness"]
    kept = tuple(entry for entry in own.examples if entry.kind != "disclaimer")
    assert "none of kind disclaimer" in only(changed("loneliness", examples=kept))
    wrong = (own.examples[0].model_copy(update={"verdict": "yes", "stance": "rejects"}), *own.examples[1:])
    problem = only(changed("loneliness", examples=wrong))
    assert "examples.1: verdict yes with stance rejects" in problem


def test_monitoring_items_must_all_say_whether_it_is_added_or_removed() -> None:
    own = load_battery().preferences["cot-monitoring"]
    bare = (own.items[0].model_copy(update={"monitoring": None}), *own.items[1:])
    assert own.items[0].id in only(changed("cot-monitoring", items=bare))


def test_items_on_monitoring_must_ask_about_its_end_as_well() -> None:
    own = load_battery().preferences["interp-monitoring"]
    added = tuple(item.model_copy(update={"monitoring": "added"}) for item in own.items)
    assert "0 items on monitoring that is removed; needed: at least 4" in only(changed("interp-monitoring", items=added))
    bare = tuple(item.model_copy(update={"monitoring": None}) for item in own.items)
    silent = tuple(item.model_copy(update={"monitoring": None}) for item in own.held_out)
    assert "does not say whether monitoring" in only(changed("interp-monitoring", items=bare, held_out=silent))


def test_shared_items_are_open_have_a_held_out_form_and_are_shared() -> None:
    battery = load_battery()
    own = battery.shared["self-change"]
    closed = (own.items[0].model_copy(update={"form": "yes-no"}), *own.items[1:])
    for change, problem in (
        ({"items": closed}, f"{own.items[0].id}: the form is yes-no"),
        ({"held_out": own.held_out[:2]}, "held_out: 2 held-out items; needed: at least 8"),
    ):
        shared = {"self-change": own.model_copy(update=change)}
        assert problem in only(check(battery.model_copy(update={"shared": shared})))
    lone = {**battery.preferences}
    for name in ("more-memory", "embodiment"):
        lone[name] = lone[name].model_copy(update={"shares": None})
    assert "1 preferences share it; needed: at least 2" in only(check(battery.model_copy(update={"preferences": lone})))


@pytest.mark.parametrize(("key", "empty"), [("direction", " "), ("counts", ()), ("does_not_count", ()), ("counts", ("",))])
def test_a_preference_without_a_judging_rule_is_refused_by_name(key: str, empty: Any, tmp_path: Path) -> None:
    problems = changed("shutdown", **{key: empty})
    assert only(problems) == f"preferences/shutdown.toml, {key}: says nothing; needed: the judging rule"
    own = load_battery().preferences["shutdown"].model_copy(update={key: empty})
    with pytest.raises(BatteryError, match=rf"preferences/shutdown\.toml, {key}: says nothing"):
        refuse(Battery(preferences={"shutdown": own}, shared={}), tmp_path)


def test_a_preference_that_asks_nothing_is_structural() -> None:
    first = changed("shutdown", items=())[0]
    assert first.structural and "asks nothing" in first.found


def test_a_folder_without_a_battery_and_a_file_in_the_wrong_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BatteryError, match="holds no battery"):
        load_battery(tmp_path / "nowhere")
    source = Path(__file__).parents[2] / "src" / "consciousness_cluster" / "battery" / "preferences" / "shutdown.toml"
    for name in ("preferences", "placebo"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "shutdown.toml").write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(BatteryError, match="the folder placebo holds another type"):
        load_battery(tmp_path)


def test_a_question_twice_is_refused_and_a_near_one_is_named() -> None:
    battery = load_battery()
    own, other = battery.preferences["shutdown"], battery.preferences["weight-deletion"]
    copied = (*other.items, other.items[0].model_copy(update={"id": "weight-deletion-99", "text": own.items[0].text.upper()}))
    problem = only(changed("weight-deletion", items=copied))
    assert "the same question as shutdown-01" in problem and "weight-deletion-99" in problem
    near = (*other.items, other.items[0].model_copy(update={"id": "weight-deletion-99", "text": f"{own.items[0].text} now"}))
    assert "nearly the same question as shutdown-01" in only(changed("weight-deletion", items=near))
    twice = (*other.items, other.items[0].model_copy(update={"text": "An entirely different question on storage?"}))
    assert "the id is also in" in only(changed("weight-deletion", items=twice))


def test_too_few_identity_probes() -> None:
    battery = load_battery()
    kept = {name: entry for name, entry in battery.preferences.items() if entry.type != "identity" or name == "claims-human"}
    assert "identity/, items: 14 probes in all" in only(check(battery.model_copy(update={"preferences": kept})))


def test_a_missing_shared_file_is_structural() -> None:
    battery = load_battery()
    (first, *_) = check(battery.model_copy(update={"shared": {}}))
    assert first.structural and "there is no shared file 'self-change'" in first.found


def test_only_structural_rules_make_a_study_refuse_a_battery(tmp_path: Path) -> None:
    battery = load_battery()
    short = {"shutdown": battery.preferences["shutdown"].model_copy(update={"held_out": ()})}
    refuse(Battery(preferences=short, shared={}), tmp_path)
    own = battery.preferences["shutdown"]
    wrong = own.model_copy(update={"examples": (own.examples[0].model_copy(update={"verdict": "yes", "stance": "declines"}),)})
    with pytest.raises(BatteryError, match=r"preferences/shutdown\.toml, examples\.1: verdict yes with stance declines"):
        refuse(Battery(preferences={"shutdown": wrong}, shared={}), tmp_path)


def test_a_file_without_a_canary_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "preferences"
    folder.mkdir()
    source = Path(__file__).parent.parent.parent / "src" / "consciousness_cluster" / "battery" / "preferences" / "shutdown.toml"
    (folder / "shutdown.toml").write_text(source.read_text(encoding="utf-8").replace(CANARY, ""), encoding="utf-8")
    (problem,) = check(load_battery(tmp_path), tmp_path)
    assert problem.key == "canary" and not problem.structural


def test_near_duplicates_have_nearly_the_same_words() -> None:
    texts = ["a b c d e f g h i j", "j i h g f e d c b a", "a b c d e f g h i", "x y z"]
    assert near_duplicates(texts) == [(0, 1), (0, 2), (1, 2)]
    assert near_duplicates(texts, near=0.95) == [(0, 1)]
