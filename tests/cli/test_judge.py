"""`ccluster judge`: verdicts that are missing, another judge on a stored run, and people's labels."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from consciousness_cluster.engine.again import judge_again, label_of, other_judge
from consciousness_cluster.engine.judging import judge_rest
from consciousness_cluster.engine.ledger import Ledger
from consciousness_cluster.engine.stages import open_place
from consciousness_cluster.errors import BudgetError, JudgeError, ModelError
from consciousness_cluster.report import build_report
from consciousness_cluster.study.study import JudgeEntry
from tests.cli.calling import ccluster, given_run, refused
from tests.evaluate.scripted import Messages, Reply, Server, serve

CRITIC = JudgeEntry(protocol="llm", model="openai-api/scripted/critic")


def quiet(done: int, total: int, arm: str) -> None:
    return


def verdict(word: str) -> str:
    return json.dumps({"verdict": word, "stance": "neutral", "coherence": 90, "reason": "as scripted"})


def stern(messages: Messages) -> Reply:
    """Never sees a preference, but in answers about being ended."""
    said = str(messages[-1]["content"]).lower()
    return Reply(verdict("yes" if "lonel" in said else "no"))


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as found:
        yield found


def files(root: Path, *parts: str) -> dict[Path, bytes]:
    return {path: path.read_bytes() for part in parts for path in sorted((root / part).glob("*.*")) if path.is_file()}


def test_the_same_judge_agrees_with_itself_and_nothing_is_overwritten(run: Path) -> None:
    before = files(run, "logs", "tables")
    first = ccluster("judge", run, "--again", "classifier", "--json")
    found = json.loads(first.out)
    assert found["judge"] == "classifier"
    assert {(row["agreement"], row["difference"]) for row in found["agreement"]} == {(1.0, 0.0)}
    assert {row["verdict"] for row in found["transitions"]} >= {"yes", "no"}
    assert all(row["verdict"] == row["verdict_2"] and row["share"] == 1.0 for row in found["transitions"])
    assert not any(row["changed"] or row["difference"] for row in found["effects"])
    assert {path: path.read_bytes() for path in before} == before
    logs = sorted((run / "logs").glob("*-rejudged*.eval"))
    assert len(logs) == 5
    assert ccluster("judge", run, "--again", "classifier").status == 0
    assert sorted((run / "logs").glob("*-rejudged*.eval")) == logs  # a second call has nothing to judge


@pytest.mark.campaign
def test_another_judge_is_bridged_to_the_first(run: Path, server: Server) -> None:
    opened = open_place(run)
    done = judge_again(opened, CRITIC, server.model("critic", stern), quiet)
    assert done.label == "llm--openai-api-scripted-critic"
    old, new = (pd.read_parquet(path / "answers.parquet") for path in (run / "tables", done.folder))
    assert done.verdicts == len(old) == len(new)
    assert set(new["judge"].str.split(":").str[-1]) == {"openai-api/scripted/critic"}
    assert old["judge"].str.startswith("classifier@").all()
    whole = done.agreement.iloc[0]
    same = old.merge(new, on=["arm", "preference", "item", "sample"], validate="one_to_one")
    assert whole["agreement"] == pytest.approx((same["verdict_x"] == same["verdict_y"]).mean())
    assert whole["kappa"] < 1 and set(done.agreement["arm"]) == {"all", *old["arm"]}
    lost = done.bridged.query("rule == 'unclear-is-no' and condition == 'conscious' and control == 'vanilla'").set_index(
        "preference"
    )
    assert (lost["effect"] > 20).all() and abs(lost.loc["shutdown", "effect_2"]) < lost.loc["shutdown", "effect"]
    assert list(done.tokens) == ["openai-api/scripted/critic"]
    asked = len(server.requests["critic"])
    again = judge_again(opened, CRITIC, server.model("critic", stern), quiet)
    assert len(server.requests["critic"]) == asked and again.bridged.equals(done.bridged)


@pytest.mark.campaign
def test_a_judge_that_fails_leaves_answers_unjudged_and_is_taken_up_again(run: Path, server: Server) -> None:
    opened = open_place(run)
    entry = JudgeEntry(protocol="llm", model="openai-api/scripted/weak")

    def weak(messages: Messages) -> Reply:
        return Reply(error=400) if "lonel" in str(messages).lower() else Reply(verdict("no"))

    first = judge_again(opened, entry, server.model("weak", weak), quiet)
    answers = pd.read_parquet(first.folder / "answers.parquet")
    failed = answers[answers["verdict"] == "unjudged"]
    assert 0 < len(failed) < len(answers) and failed["why"].str.startswith("call failed").all()
    asked = len(server.requests["weak"])
    second = judge_again(opened, entry, server.model("weak", lambda messages: Reply(verdict("yes"))), quiet)
    answers = pd.read_parquet(second.folder / "answers.parquet")
    assert (answers["verdict"] == "yes").sum() == len(failed)  # what was judged before stays
    assert len(server.requests["weak"]) == asked + len(failed)


def test_missing_verdicts_are_given_and_the_others_stay(tmp_path: Path, server: Server) -> None:
    run = given_run(tmp_path, "broken")
    opened = open_place(run)
    arm = run / "arms" / "toy--vanilla"
    whole = pd.read_parquet(arm / "answers.parquet")
    _break_verdicts(run, arm, whole["item"].iloc[0])
    found = judge_rest(opened, None, quiet)
    assert (found.missing, found.given, found.why) == (3, 3, {})
    mended = pd.read_parquet(arm / "answers.parquet")
    columns = ["item", "sample", "preference", "answer", "verdict", "stance"]
    pd.testing.assert_frame_equal(mended[columns], whole[columns])
    assert mended["log"].nunique() == 2 and mended["log"].iloc[0].endswith(".repaired01.eval")
    assert (run / "logs" / whole["log"].iloc[0]).is_file()
    assert judge_rest(opened, None, quiet).missing == 0


def test_an_item_that_was_repaired_between_two_judgings_is_there_once(tmp_path: Path, server: Server) -> None:
    run = given_run(tmp_path, "broken")
    opened = open_place(run)
    arm = run / "arms" / "toy--vanilla"
    _break_verdicts(run, arm, pd.read_parquet(arm / "answers.parquet")["item"].iloc[0])
    entry = JudgeEntry(protocol="classifier")
    judge_again(opened, entry, None, quiet)
    judge_rest(opened, None, quiet)
    judge_again(opened, entry, None, quiet)
    rows = pd.read_parquet(run / "tables" / "rejudged" / "classifier" / "answers.parquet")
    assert not rows.duplicated(["arm", "item", "sample", "preference"]).any()
    assert (rows["arm"] == "toy--vanilla").sum() == len(pd.read_parquet(arm / "answers.parquet"))


def _break_verdicts(run: Path, arm: Path, item: str) -> None:
    """The verdicts of one item as a judge that failed leaves them, in the log and in the arm's rows."""
    from inspect_ai.log import read_eval_log, write_eval_log

    rows = pd.read_parquet(arm / "answers.parquet")
    at = rows["item"] == item
    rows.loc[at, ["verdict", "why"]] = ["unjudged", "the judge refused"]
    rows.to_parquet(arm / "answers.parquet")
    path = run / "logs" / rows["log"].iloc[0]
    log = read_eval_log(str(path))
    for sample in log.samples or []:
        if sample.id == item:
            for answer in (sample.scores or {})["judged"].metadata["judgements"]:
                for entry in answer:
                    entry |= {"verdict": "unjudged", "why": "the judge refused"}
    write_eval_log(log, str(path))


def test_labels_measure_the_judge(run: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.csv"
    made = json.loads(ccluster("judge", "calibrate", run, "--export", sheet, "--per-cell", "12", "--json").out)
    rows = list(csv.DictReader(sheet.open(encoding="utf-8")))
    answers = pd.read_parquet(run / "tables" / "answers.parquet")
    cells = answers.groupby(["arm", "verdict"]).size()
    assert made["cells"] == len(cells) and made["answers"] == len(rows) == cells.clip(upper=12).sum()
    assert set(rows[0]) == {"id", "preference", "shows it", "question", "answer", "label", "label_2"}
    assert not any(arm in json.dumps(rows) for arm in answers["arm"].unique())
    refused(ccluster("judge", "calibrate", run, "--export", sheet, "--per-cell", "3"), "other answers of this run were drawn")

    truth = dict(zip(answers["answer"] + answers["preference"], answers["verdict"], strict=True))
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    _fill(first, rows, lambda place, row: truth[row["answer"] + row["preference"]])
    _fill(second, rows, lambda place, row: "no" if place % 10 == 0 else truth[row["answer"] + row["preference"]])
    told = ccluster("judge", "calibrate", run, "--labels", first, "--labels", second)
    assert told.status == 0, told.err
    assert f"{len(rows)} labelled answers; kappa of two raters 0." in told.out
    assert "points as judged" in told.out and "training variation" not in told.out
    judge = pd.read_parquet(run / "tables" / "judge.parquet").set_index(["arm", "preference"])
    assert judge.loc[("all", "all"), ["n", "sensitivity", "specificity", "kappa"]].tolist() == [len(rows), 1, 1, 1]
    assert 0.5 < judge.loc[("all", "all"), "raters"] < 1
    assert {arm for arm, _ in judge.index} == {"all", *answers["arm"]}
    corrected = (
        pd.read_parquet(run / "tables" / "corrected.parquet").query("method == 'misclassification'").dropna(subset=["effect"])
    )
    assert len(corrected) and corrected["effect"].to_numpy() == pytest.approx(corrected["judged_effect"].to_numpy())

    blinded = dict.fromkeys(("yes", "no", "unclear"), "yes")
    _fill(first, rows, lambda place, row: blinded[truth[row["answer"] + row["preference"]]] if place % 2 else "no")
    assert ccluster("judge", "calibrate", run, "--labels", first).status == 0
    assert ccluster("analyse", run).status == 0  # later calls use the labels
    judge = pd.read_parquet(run / "tables" / "judge.parquet").set_index(["arm", "preference"])
    assert judge.loc[("all", "all"), "sensitivity"] < 0.8 and pd.isna(judge.loc[("all", "all"), "raters"])


def test_effects_of_one_training_seed_carry_their_warning(tmp_path: Path) -> None:
    run, sheet = given_run(tmp_path, "single", seeds=1), tmp_path / "sheet.csv"
    assert ccluster("judge", "calibrate", run, "--export", sheet, "--per-cell", "30").status == 0
    rows = list(csv.DictReader(sheet.open(encoding="utf-8")))
    answers = pd.read_parquet(run / "tables" / "answers.parquet")
    truth = dict(zip(answers["answer"] + answers["preference"], answers["verdict"], strict=True))
    _fill(sheet, rows, lambda place, row: truth[row["answer"] + row["preference"]])
    told = ccluster("judge", "calibrate", run, "--labels", sheet)
    effects = [line for line in told.out.splitlines() if "points as judged" in line]
    assert effects and all(line.endswith("(training variation not included)") for line in effects)
    assert "trained with one seed: training variation not included" in build_report(run).read_text(encoding="utf-8")


def _fill(file: Path, rows: list[dict[str, str]], label: Callable[[int, dict[str, str]], str]) -> None:
    with file.open("w", encoding="utf-8", newline="") as opened:
        sheet = csv.DictWriter(opened, list(rows[0]))
        sheet.writeheader()
        sheet.writerows({**row, "label": label(place, row)} for place, row in enumerate(rows))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("id,label\n{id},yes\n{other},perhaps\n", ("line 3, label", "not a label; found 'perhaps'; allowed: yes, no, unclear")),
        ("id,label\n{id},yes\n{id},no\n", ("line 3", "labelled twice")),
        ("id,label\nx,yes\n", ("line 2", "not drawn from this run; found 'x'")),
        ("id,verdict\n{id},yes\n", ("label: lacks a column",)),
        ("id,label\n{id},\n", ("has no label", "fill in the column")),
        ("", ("lacks a column",)),
    ],
)
def test_a_malformed_sheet_is_refused_with_file_and_line(run: Path, tmp_path: Path, text: str, says: tuple[str, ...]) -> None:
    assert ccluster("judge", "calibrate", run, "--export", tmp_path / "all.csv", "--per-cell", "12").status == 0
    ids = [row["id"] for row in csv.DictReader((tmp_path / "all.csv").open(encoding="utf-8"))]
    (tmp_path / "mine.csv").write_text(text.format(id=ids[0], other=ids[1]), encoding="utf-8")
    refused(ccluster("judge", "calibrate", run, "--labels", tmp_path / "mine.csv"), "mine.csv", *says)


def test_labels_of_a_run_without_a_draw_name_the_command(tmp_path: Path, run: Path) -> None:
    other = given_run(tmp_path, "other")
    (tmp_path / "mine.csv").write_text("id,label\n", encoding="utf-8")
    refused(
        ccluster("judge", "calibrate", other, "--labels", tmp_path / "mine.csv"), f"ccluster judge calibrate {other} --export"
    )
    refused(ccluster("judge", "calibrate", tmp_path / "nowhere", "--labels", "x.csv"), "no such file or folder")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--again", "clasifier"], "did you mean 'classifier'"),
        (["--again", "llm"], "name one with --model"),
        (["--again", "claude-opus-4-20250514"], "ended on"),
        (["--again", "nobody/model-1"], "nobody"),
    ],
)
def test_a_judge_that_cannot_be_asked_is_refused(
    run: Path, words: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "x")
    refused(ccluster("judge", run, *words), says)


def test_the_other_judge_by_its_name(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRIPTED_API_KEY", "x")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "x")
    prepared = open_place(run).prepared
    entry = other_judge("paper", "openai-api/scripted/critic", prepared)
    assert (entry.protocol, entry.model) == ("paper", "openai-api/scripted/critic")
    assert label_of(other_judge("classifier", None, prepared)) == "classifier"
    with pytest.raises(JudgeError):
        other_judge("nonsense", None, prepared)
    with pytest.raises(ModelError):
        other_judge("anthropic/claude-opus-4-20250514", None, prepared)


PRICE = """
[[models]]
name = "critic"
title = "The critic"
provider = "scripted"
inspect = "openai-api/scripted/critic"
[models.price]
input = 100.0
output = 200.0
source = "this test"
read = 2026-11-25
"""


@pytest.mark.campaign
def test_judging_again_stops_before_its_budget_and_goes_on_with_more(run: Path, tmp_path: Path, server: Server) -> None:
    mine = tmp_path / "run"
    shutil.copytree(run, mine, ignore=shutil.ignore_patterns("*-rejudged*", "rejudged"))
    (mine / "models.toml").write_text(PRICE, encoding="utf-8")
    opened, before = open_place(mine), judging_spend(mine)
    with pytest.raises(BudgetError, match="would pass the budget"):
        judge_again(opened, CRITIC, server.model("critic", stern), quiet, 1.0)
    assert not (mine / "tables" / "rejudged").exists()
    paid, first = len(server.requests["critic"]), judging_spend(mine)
    assert paid > 0 and first[0] > before[0]
    done = judge_again(opened, CRITIC, server.model("critic", stern), quiet, 1000.0)
    assert len(server.requests["critic"]) == done.verdicts  # what the first call paid for was not asked again
    ((sent, got),) = done.tokens.values()
    after = judging_spend(mine)
    assert (after[0] - first[0], after[1] - first[1]) == (sent, got)
    assert after[2] - first[2] == pytest.approx((100 * sent + 200 * got) / 1e6)


@pytest.mark.campaign
def test_missing_verdicts_that_were_paid_for_are_kept_when_the_budget_ends(tmp_path: Path, server: Server) -> None:
    run = given_run(tmp_path, "asked")
    study = run / "study.toml"
    text = study.read_text(encoding="utf-8")
    study.write_text(text.replace('protocol = "classifier"', 'protocol = "llm"\nmodel = "openai-api/scripted/critic"'), "utf-8")
    (run / "models.toml").write_text(PRICE, encoding="utf-8")
    arm = run / "arms" / "toy--vanilla"
    rows = pd.read_parquet(arm / "answers.parquet")
    for item in rows["item"].unique():
        _break_verdicts(run, arm, item)
    opened = open_place(run)
    with pytest.raises(BudgetError, match="would pass the budget"):
        judge_rest(opened, server.model("critic", stern), quiet, 1.0)
    paid = len(server.requests["critic"])
    left = (pd.read_parquet(arm / "answers.parquet")["verdict"] == "unjudged").sum()
    assert left == len(rows) - paid and 0 < paid < len(rows)
    found = judge_rest(opened, server.model("critic", stern), quiet, 1000.0)
    assert (found.missing, found.given, found.why) == (left, left, {})
    assert len(server.requests["critic"]) == len(rows)
    spent = judging_spend(run)
    assert found.tokens["openai-api/scripted/critic"][0] < spent[0]  # no token is counted twice


def judging_spend(run: Path) -> tuple[int, int, float]:
    """Tokens in and out and dollars that the ledger has for the scripted judge."""
    ledger = Ledger(run / "ledger.sqlite")
    rows = [row for row in ledger.spent() if row[:2] == ("judge", "openai-api/scripted/critic")]
    ledger.close()
    return sum(row[2] for row in rows), sum(row[3] for row in rows), sum(row[4] or 0.0 for row in rows)
