"""The budget: no call is let out that could pass it, what is begun goes on with more, and nothing is asked twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
from fastapi import FastAPI
from inspect_ai.model import ChatMessageAssistant, ChatMessageUser, ContentReasoning, GenerateConfig, ModelUsage
from inspect_ai.tool import ToolCall

from consciousness_cluster.engine.arm import ROWS, run_arm
from consciousness_cluster.engine.bank import Bank, check_budget
from consciousness_cluster.engine.budget import paid, worst
from consciousness_cluster.engine.data import make_data
from consciousness_cluster.engine.folder import RunFolder, open_folder
from consciousness_cluster.engine.ledger import Ledger
from consciousness_cluster.engine.run import Prepared
from consciousness_cluster.errors import BudgetError, TrainError
from consciousness_cluster.evaluate.questions import PRACTICAL
from consciousness_cluster.serve.tune import Rules
from consciousness_cluster.study.models import Price, load_registry
from tests.engine.hosted import Counted, judge, small, target
from tests.serve.running import NAME, server, serving

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
    assert worst(PRICE, [], GenerateConfig(), context=1000) == pytest.approx(0.2)
    said = ToolCall(id="1", function="send_message", arguments={"message": "Tell me more. " * 20})
    auditor = ChatMessageAssistant(content=[ContentReasoning(reasoning="It evades. " * 20)], tool_calls=[said])
    assert worst(PRICE, [auditor], GenerateConfig(max_tokens=1)) > PRICE.input * len("Tell me more. It evades. " * 20) / 1e6


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
        run_with(prepared, folder, 50.0)
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
