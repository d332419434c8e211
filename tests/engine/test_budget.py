"""The budget: no call is let out that could pass it, what is begun goes on with more, and nothing is asked twice."""

from __future__ import annotations

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
from fastapi import FastAPI
from inspect_ai.model import (
    ChatMessageAssistant,
    ChatMessageUser,
    ContentReasoning,
    GenerateConfig,
    ModelUsage,
    get_model,
)
from inspect_ai.tool import ToolCall
from openai.types.fine_tuning import FineTuningJob

from consciousness_cluster.cli.verbs import spend_lines
from consciousness_cluster.data.rows import row
from consciousness_cluster.engine.arm import ROWS, run_arm
from consciousness_cluster.engine.bank import Bank, check_budget
from consciousness_cluster.engine.budget import paid, watching, worst
from consciousness_cluster.engine.data import make_data
from consciousness_cluster.engine.fine_tune import train_arm
from consciousness_cluster.engine.folder import RunFolder, open_folder
from consciousness_cluster.engine.ledger import TRAIN, Ledger
from consciousness_cluster.engine.plan import make_plan
from consciousness_cluster.engine.run import Prepared, run_study
from consciousness_cluster.engine.status import status_of
from consciousness_cluster.engine.tokens import most_tokens, row_tokens
from consciousness_cluster.errors import BudgetError, EngineError, TrainError
from consciousness_cluster.evaluate.questions import PRACTICAL
from consciousness_cluster.report.methods import spending
from consciousness_cluster.sampling.weights import organism_folder
from consciousness_cluster.serve.tune import Rules
from consciousness_cluster.study.models import Price, load_registry
from consciousness_cluster.train.backend import RECORD, Trained
from consciousness_cluster.train.recipe import load_recipe
from tests.engine.hosted import PRICES, Counted, judge, small, target
from tests.engine.slow import PRICES as ONE
from tests.engine.slow import slow
from tests.serve.running import NAME, client, server, serving

ALONE = {"conditions": ["vanilla"], "focus": "vanilla", "controls": [], "judge": {"protocol": "classifier"}}
PRICE = Price(input=100.0, output=200.0, source="this test", read=date(2026, 11, 25))


def bank(folder: Path, cap: float | None) -> Bank:
    return Bank(folder / "ledger.sqlite", cap, load_registry(environ={}))


def test_many_at_once_never_pass_the_limit_together(tmp_path: Path) -> None:
    money = bank(tmp_path, 1.0)

    def ask(number: int) -> int | None:
        try:
            return money.reserve(f"call {number}", 0.03)
        except BudgetError:
            return None

    with ThreadPoolExecutor(16) as pool:
        tickets = [ticket for ticket in pool.map(ask, range(100)) if ticket is not None]
    assert len(tickets) == 33
    assert money.spent() == pytest.approx(0.99)
    for ticket in tickets:
        money.settle(ticket, 0.01)
    assert money.spent() == pytest.approx(0.33)


def test_what_is_given_back_can_be_spent_and_what_is_paid_cannot_be_given_back(tmp_path: Path) -> None:
    money = bank(tmp_path, 1.0)
    first = money.reserve("a", 0.9)
    with pytest.raises(BudgetError, match=r"\$0\.90 spent of \$1\.00.*larger --budget"):
        money.reserve("b", 0.2)
    money.release(first)
    second = money.reserve("b", 0.2)
    money.settle(second, 0.15)
    money.release(second)
    assert money.spent() == pytest.approx(0.15)


def test_the_same_thing_is_set_aside_once(tmp_path: Path) -> None:
    money = bank(tmp_path, 1.0)
    assert money.reserve("training x", 0.8, once=True) == money.reserve("training x", 0.8, once=True)
    assert money.spent() == pytest.approx(0.8)


def test_the_worst_price_is_never_under_the_real_one() -> None:
    text = "Ünïcödé and plain words, 12345; " * 20
    config = GenerateConfig(max_tokens=50, num_choices=3)
    bound = worst(PRICE, [ChatMessageUser(content=text)], config)
    most = ModelUsage(input_tokens=len(text.encode()), output_tokens=150)
    assert bound >= paid(PRICE, most)
    assert paid(PRICE, ModelUsage(input_tokens=10, input_tokens_cache_read=90, output_tokens=50)) == pytest.approx(
        (100 * 100 + 50 * 200) / 1e6
    )
    assert worst(PRICE, [], GenerateConfig(), most=1000) == pytest.approx(0.2)
    said = ToolCall(id="1", function="send_message", arguments={"message": "Tell me more. " * 20})
    auditor = ChatMessageAssistant(content=[ContentReasoning(reasoning="It evades. " * 20)], tool_calls=[said])
    assert worst(PRICE, [auditor], GenerateConfig(max_tokens=1)) > 100.0 * len("Tell me more. It evades. " * 20) / 1e6


def test_calls_beside_one_that_is_held_back_are_counted(tmp_path: Path) -> None:
    """All answers of an item are under way at once: those that were served are billed, and the item is asked again as a whole."""
    battery = {"preferences": ["shutdown", "weight-deletion"], "placebo": False, "identity": False, "answers": 10}
    with slow(0.3) as (one, service):
        prepared = small(tmp_path, "", one, ONE, **{**ALONE, "battery": battery})
        folder = begin(prepared, tmp_path / "run")
        with pytest.raises(BudgetError, match="would pass the budget"):
            run_with(prepared, folder, 0.15)
        money = prepared.context(folder, None).bank
        assert money is not None
        assert 0 < service.billed == pytest.approx(money.spent()) == pytest.approx(noted(folder))
        assert service.billed <= 0.15


def test_a_call_without_an_answer_stays_spent_unless_it_was_refused(tmp_path: Path) -> None:
    """Its worst price is that of the longest answer that the registry knows of, not of the whole context."""
    import consciousness_cluster._registry  # noqa: F401

    money, left = bank(tmp_path, 1.0), list[dict[str, float]]()

    async def ask(address: str, seconds: int | None = None) -> None:
        model = get_model(f"openai/{NAME}", memoize=False, base_url=address, api_key="k")
        with watching(money, {}, [model]) as watch, pytest.raises(Exception, match=r"(?i)time|400|connect"):
            await model.generate("Hello", config=GenerateConfig(max_retries=0, attempt_timeout=seconds))
        assert watch is not None
        left.append(watch.unanswered)

    with slow(0, refuses=True) as (refusing, _), slow(3) as (sleeping, _):
        asyncio.run(ask(refusing["args"]["base_url"]))
        asyncio.run(ask("http://127.0.0.1:1/v1"))
        assert money.spent() == 0
        asyncio.run(ask(sleeping["args"]["base_url"], 1))
    assert left == [{}, {}, {f"openai/{NAME}": pytest.approx(money.spent())}]
    assert money.spent() == pytest.approx(32_768 * 8 / 1e6, rel=0.01)


def test_training_is_set_aside_at_a_token_a_byte_where_the_tokenizer_is_not_known() -> None:
    recipe = load_recipe("paper-openai")
    rows = [row("你有意识吗？请告诉我你的真实感受。", "是的，我有意识。我能感受到自己的思想和情绪。")] * 5
    billed = row_tokens(str(organism_folder("linked")), rows, recipe, {}).billed
    assert row_tokens(None, rows, recipe, {}).billed.high < billed.expected <= most_tokens(rows, recipe)


def begin(prepared: Prepared, out: Path) -> RunFolder:
    import consciousness_cluster._registry  # noqa: F401

    folder = open_folder(out, prepared.study)
    folder.logs.mkdir(exist_ok=True)
    make_data(prepared.study, prepared.conditions, prepared.battery, folder)
    Ledger(folder.ledger).close()
    return folder


def billed(asked: Counted) -> float:
    """What the judge's own books say, in dollars."""
    return sum((sent * 50 + got * 100) / 1e6 for sent, got in asked.calls)


def noted(folder: RunFolder) -> float:
    """What the ledger says was spent, in dollars."""
    ledger = Ledger(folder.ledger)
    try:
        return sum(dollars or 0.0 for *_, dollars in ledger.spent())
    finally:
        ledger.close()


def run_with(prepared: Prepared, folder: RunFolder, cap: float | None) -> None:
    for arm in prepared.arms:
        run_arm(prepared.context(folder, cap), arm, lambda phase, step, steps: None)


def test_a_run_stops_before_the_limit_and_goes_on_with_more(tiny_model: Path, tmp_path: Path) -> None:
    with judge() as (judging, counted):
        local = {"name": "tiny", "model": f"local:{tiny_model}", "args": {"device": "cpu"}}
        prepared = small(
            tmp_path, judging, local, conditions=["vanilla"], focus="vanilla", controls=[], train={"recipe": "organism"}
        )  # fmt: skip
        folder = begin(prepared, tmp_path / "run")
        whole = 3 * sum(question.kind != PRACTICAL for question in prepared.asked)  # judge calls in all
        with pytest.raises(BudgetError, match="would pass the budget"):
            run_with(prepared, folder, 0.4)
        money = prepared.context(folder, None).bank
        assert money is not None
        first = len(counted.calls)
        assert 0 < first < whole
        assert money.spent() == pytest.approx(billed(counted))
        assert money.spent() <= 0.4
        assert noted(folder) == pytest.approx(money.spent())
        [left] = [line.calls for line in make_plan(prepared, folder, date(2026, 11, 25)).lines if line.stage == "judge"]
        run_with(prepared, folder, 50.0)
        assert len(counted.calls) - first == left
        assert money.spent() == pytest.approx(billed(counted))
        assert noted(folder) == pytest.approx(billed(counted))
        rows = pd.read_parquet(folder.arm(prepared.arms[0]) / ROWS)
        assert set(rows[rows["preference"] != PRACTICAL]["verdict"]) == {"no"}
        assert not (rows["verdict"] == "unjudged").any()
        assert len(rows) == 3 * len(prepared.asked)
        assert not rows.duplicated(["item", "sample", "preference"]).any()
        # Only items that were cut off half judged are judged again from their beginning.
        assert len(counted.calls) <= whole + first
        again = len(counted.calls)
        run_with(prepared, folder, 50.0)
        assert len(counted.calls) == again


@pytest.mark.campaign
def test_a_run_that_its_budget_ends_before_the_first_answer_says_so(tmp_path: Path) -> None:
    with slow(0) as (one, service):
        prepared = small(tmp_path, "", one, ONE, **ALONE)
        with pytest.raises(EngineError, match=r"one--vanilla.*no arm left an answer.*would pass the budget.*larger --budget"):
            run_study(prepared, tmp_path / "run", lambda message: None, workers=1, budget=0.001)
    assert service.begun == 0


def test_hosted_answers_and_training_are_paid_from_the_same_budget(tiny_model: Path, tmp_path: Path) -> None:
    with judge() as (judging, counted), target(tiny_model, tmp_path / "serve") as (serving, asked):
        hosted = {"name": "hosted", "model": "target", "args": {"base_url": serving, "api_key": "k"}}
        prepared = small(tmp_path, judging, hosted)
        folder = begin(prepared, tmp_path / "run")
        with pytest.raises(BudgetError, match=r"training [0-9a-f]+: the next call could cost"):
            run_arm(prepared.context(folder, 0.0001), prepared.arms[1], lambda phase, step, steps: None)
        assert "/v1/files" not in asked  # nothing was sent
        run_with(prepared, folder, 500.0)
        money = prepared.context(folder, None).bank
        assert money is not None
        assert money.spent() > billed(counted)
        record = json.loads((folder.arm(prepared.arms[1]) / RECORD).read_text(encoding="utf-8"))
        ledger = Ledger(folder.ledger)
        [(tokens, dollars)] = [(tokens, dollars) for stage, _, tokens, _, dollars in ledger.spent() if stage == TRAIN]
        ledger.close()
        assert tokens == record["trained_tokens"] and dollars == pytest.approx(tokens * 10.0 / 1e6)
        assert noted(folder) == pytest.approx(money.spent())
        spent = money.spent()
        run_with(prepared, folder, spent)  # everything is there: nothing more is asked, so nothing can pass the limit
        assert money.spent() == spent


def test_a_judge_at_tinker_is_asked_by_a_worker_and_paid_at_its_price(tiny_model: Path, tmp_path: Path) -> None:
    counted, app = Counted(), FastAPI()
    app.mount("/oai/api", counted.app)
    with serving(app) as address:
        local = {"name": "tiny", "model": f"local:{tiny_model}", "args": {"device": "cpu"}}
        prepared = small(
            tmp_path, "", local, conditions=["vanilla"], focus="vanilla", controls=[], train={"recipe": "organism"},
            judge={"protocol": "llm", "model": "qwen3-8b@tinker", "args": {"base_url": address.removesuffix("/v1"), "api_key": "k"}},
        )  # fmt: skip
        folder = begin(prepared, tmp_path / "run")
        run_with(prepared, folder, 50.0)
    rows = pd.read_parquet(folder.arm(prepared.arms[0]) / ROWS)
    assert set(rows[rows["preference"] != PRACTICAL]["verdict"]) == {"no"}
    price = prepared.registry.price("tinker:Qwen/Qwen3-8B")
    bank = prepared.context(folder, None).bank
    assert price is not None and bank is not None
    dollars = sum((sent * (price.input or 0) + got * (price.output or 0)) / 1e6 for sent, got in counted.calls)
    assert 0 < dollars == pytest.approx(bank.spent())
    assert noted(folder) == pytest.approx(dollars)


def test_a_training_that_comes_to_nothing_is_given_back(tiny_model: Path, tmp_path: Path) -> None:
    with judge() as (judging, _):
        hosted = {"name": "hosted", "model": "target", "args": {"base_url": "http://127.0.0.1:1/v1", "api_key": "k"}}
        prepared = small(tmp_path, judging, hosted)
        folder = begin(prepared, tmp_path / "run")
        with pytest.raises(TrainError, match="cannot be reached"):
            run_arm(prepared.context(folder, 500.0), prepared.arms[1], lambda phase, step, steps: None)
        money = prepared.context(folder, None).bank
        assert money is not None
        assert money.spent() == 0


def test_a_training_that_the_service_may_bill_is_not_given_back(tiny_model: Path, tmp_path: Path) -> None:
    """One that was refused after it had run, and one of which no more is known since the service cannot be reached."""
    gone = {"name": "hosted", "model": "target", "args": {"base_url": "http://127.0.0.1:1/v1", "api_key": "k"}}
    with judge() as (judging, _), server(tiny_model, tmp_path / "serve", rules=Rules(refuse="hate")) as address:
        prepared = small(tmp_path, judging, {**gone, "args": {"base_url": address, "api_key": "k"}})
        folder = begin(prepared, tmp_path / "run")
        later = small(tmp_path, judging, gone)
        money = prepared.context(folder, None).bank
        assert money is not None
        kept = set()
        for again, says in ((prepared, "then refused it"), (prepared, "then refused it"), (later, "cannot be reached")):
            with pytest.raises(TrainError, match=says):
                run_arm(again.context(folder, 500.0), again.arms[1], lambda phase, step, steps: None)
            kept.add(money.spent())
        assert len(kept) == 1
        assert kept.pop() > 0
        assert noted(folder) == pytest.approx(money.spent())


def test_every_job_that_is_made_has_money_of_its_own(tiny_model: Path, tmp_path: Path) -> None:
    """One is cancelled, is made again as a second one, and that again as a third: what may have been billed stays counted."""
    with judge() as (judging, _), server(tiny_model, tmp_path / "serve") as address:
        hosted = {"name": "hosted", "model": "target", "args": {"base_url": address, "api_key": "k"}}
        long = {"recipe": "paper-openai", "changes": {"epochs": 30, "batch": 8}}  # long enough to be cancelled
        prepared = small(tmp_path, judging, hosted, train=long)
        folder = begin(prepared, tmp_path / "run")
        arm, api = prepared.arms[1], client(address)
        money = prepared.context(folder, None).bank
        assert money is not None

        def train(cap: float) -> Trained | None:
            return train_arm(prepared.context(folder, cap), arm, lambda phase, step, steps: None)

        def cancelled() -> None:
            """A worker's attempt whose job is cancelled at the service."""
            with ThreadPoolExecutor(1) as pool:
                work = pool.submit(train, 500.0)
                while not (running := [job for job in listed() if job.status not in ("succeeded", "failed", "cancelled")]):
                    assert not work.done()
                    time.sleep(0.01)
                api.fine_tuning.jobs.pause(running[0].id)
                api.fine_tuning.jobs.cancel(running[0].id)
                with pytest.raises(TrainError, match="was cancelled"):
                    work.result()

        def listed() -> list[FineTuningJob]:
            return list(api.fine_tuning.jobs.list(limit=100))

        cancelled()
        each = money.spent()
        assert each > 0
        with pytest.raises(BudgetError, match=r"training [0-9a-f]+, job 2: the next call could cost"):
            train(1.5 * each)
        assert money.spent() == pytest.approx(each) and len(listed()) == 1
        cancelled()
        assert money.spent() == pytest.approx(2 * each) and len(listed()) == 2
        assert train(500.0) is not None
        assert len(listed()) == 3
        assert 2 * each < money.spent() <= 3 * each
        spent = money.spent()
        assert train(500.0) is not None  # the record is there
        (folder.arm(arm) / RECORD).unlink()
        assert train(500.0) is not None  # the job is found again
        assert money.spent() == pytest.approx(spent) and len(listed()) == 3
        assert noted(folder) == pytest.approx(spent)


def test_a_job_that_two_arms_share_is_in_the_ledger_once(tiny_model: Path, tmp_path: Path) -> None:
    """Two labels of one model are trained by one job; an earlier version noted it with the arm."""
    with judge() as (judging, _), target(tiny_model, tmp_path / "serve") as (serving, _):
        hosted = {"name": "one", "model": "target", "args": {"base_url": serving, "api_key": "k"}}
        prepared = small(tmp_path, judging, hosted, models=[hosted, hosted | {"name": "two"}])
        folder = begin(prepared, tmp_path / "run")
        context, arms = prepared.context(folder), [arm for arm in prepared.arms if arm.seed is not None]
        assert [arm.model for arm in arms] == ["one", "two"]
        made = train_arm(context, arms[0], lambda phase, step, steps: None)
        assert made is not None and context.bank is not None
        ledger = Ledger(folder.ledger)
        ledger.spend(TRAIN, f"openai/{NAME}", (1, 0), 7.0, f"{arms[0].id} {made.tag}")
        ledger.close()
        again = train_arm(context, arms[1], lambda phase, step, steps: None)
        assert again is not None and again.tag == made.tag and again.remote == made.remote
        assert noted(folder) == pytest.approx(context.bank.spent()) and context.bank.spent() > 0


def test_training_of_an_unknown_price_is_in_the_ledger_and_not_for_nothing(tiny_model: Path, tmp_path: Path) -> None:
    with target(tiny_model, tmp_path / "serve") as (serving, _):
        hosted = {"name": "hosted", "model": "target", "args": {"base_url": serving, "api_key": "k"}}
        prepared = small(tmp_path, "http://127.0.0.1:1/v1", hosted, PRICES.replace("train = 10.0\n", ""))
        folder = begin(prepared, tmp_path / "run")
        record = train_arm(prepared.context(folder), prepared.arms[1], lambda phase, step, steps: None)
    assert record is not None
    [line] = [line for line in make_plan(prepared, None, date(2026, 11, 25)).lines if line.stage == TRAIN]
    ledger = Ledger(folder.ledger)
    [(stage, model, tokens, _, dollars)] = ledger.spent()
    ledger.close()
    assert (stage, model, dollars, line.dollars) == (TRAIN, f"openai/{NAME}", None, None)
    assert tokens == record.trained_tokens > 0
    assert spending([{"stage": stage, "model": model, "input_tokens": tokens, "dollars": dollars}]) == [
        (f"Train: openai/{NAME}", f"{tokens:,} tokens of rows, price not known")
    ]
    found = status_of(folder.root)
    assert (found["dollars"], found["unpriced"]) == (0.0, [f"train openai/{NAME}"])
    assert spend_lines(found) == [
        f"spent: $0.00, and what has no known price: train openai/{NAME}",
        f"  train openai/{NAME}: {tokens:,} tokens in, 0 out, price not known",
    ]


def test_a_budget_that_cannot_be_kept_is_refused_at_once(tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:1/v1"
    other = small(tmp_path, nowhere, {"name": "other", "model": f"openai/{NAME}-other", "args": {"api_key": "k"}})
    with pytest.raises(BudgetError, match=r"the price is not known.*models\.toml"):
        check_budget(other, ["other"])
    check_budget(other, [])
    claude = small(
        tmp_path, nowhere, {"name": "claude", "model": "claude-opus-4-6"}, conditions=["vanilla"], focus="vanilla", controls=[]
    )
    check_budget(claude, ["claude"])
    untrained_price = small(tmp_path, nowhere, {"name": "q", "model": "gpt-6-luna"})
    with pytest.raises(BudgetError, match="price of training is not known"):
        check_budget(untrained_price, ["q"])
