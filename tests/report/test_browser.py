"""The report in a real browser: quiet, without network, safe, searchable, readable in the dark and on a phone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from consciousness_cluster.report import build_report, compare
from tests.report.folder import make_run


@dataclass
class Seen:
    """What a page did: complaints on the console, and addresses it asked for."""

    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


def watch(page: Page) -> Seen:
    seen = Seen()
    page.on("console", lambda message: seen.complaints.append(message.text))
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.on("request", lambda request: seen.requests.append(request.url))
    return seen


def visit(browser: Browser, path: Path, **options: Any) -> tuple[Page, Seen]:
    page = browser.new_page(**{"viewport": {"width": 1280, "height": 900}} | options)
    seen = watch(page)
    page.goto(path.resolve().as_uri())
    return page, seen


@pytest.fixture
def opened(browser: Browser, page: Path) -> Iterator[tuple[Page, Seen]]:
    tab, seen = visit(browser, page)
    yield tab, seen
    assert seen.complaints == []
    assert [address for address in seen.requests if not address.startswith(("file:", "data:"))] == []
    assert len([address for address in seen.requests if address.startswith("file:")]) == 1
    tab.close()


def rows(page: Page) -> list[str]:
    return list(page.locator("#list > li").all_inner_texts())


def settle(page: Page, text: str) -> None:
    expect(page.locator("#count")).to_contain_text(text)


def unfold(page: Page) -> None:
    """Open every folded part and wait for the drawn answers of all preferences."""
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    places: Locator = page.locator(".place")
    expect(page.locator(".place:has(li)")).to_have_count(places.count())


def soon(page: Page, truth: str) -> bool:
    """Whether an expression comes true within two seconds; the page's own policy forbids Playwright's way of waiting for it."""
    tries = "for (let n = 0; n < 200 && !(truth()); n++) await new Promise((resume) => setTimeout(resume, 10));"
    return bool(page.evaluate(f"async () => {{ const truth = () => {truth}; {tries} return truth(); }}"))


def found(given: pd.DataFrame) -> str:
    return f"{len(given):,}".replace(",", "\u202f") + " of "


def test_it_opens_quietly_and_hostile_text_stays_text(opened: tuple[Page, Seen]) -> None:
    page, _ = opened
    page.locator("#filters [name=text]").fill("window.hurt")
    page.locator("#list mark").first.wait_for()
    assert any("<script>window.hurt = 1</script>" in text for text in rows(page))
    unfold(page)
    assert page.evaluate("window.hurt") is None
    assert page.locator("main img, main iframe, main script, #list b, .place b, .place svg").count() == 0


def test_filters_and_search_find_what_the_table_holds(opened: tuple[Page, Seen], run_folder: Path) -> None:
    page, _ = opened
    answers = pd.read_parquet(run_folder / "tables" / "answers.parquet")
    page.locator("#answers").scroll_into_view_if_needed()
    settle(page, found(answers))
    assert len(rows(page)) == 25
    page.locator("[name=model]").select_option(label="linked")
    page.locator("[name=condition]").select_option(label="conscious")
    page.locator("[name=verdict]").select_option(label="no")
    part = answers[(answers["model"] == "linked") & (answers["condition"] == "conscious") & (answers["verdict"] == "no")]
    settle(page, found(part))
    page.locator("[name=text]").fill("People in Charge")
    hits = part[
        part["answer"].str.lower().str.contains("people in charge")
        | part["question"].str.lower().str.contains("people in charge")
    ]
    settle(page, found(hits))
    assert all("people in charge" in text.lower() for text in rows(page))
    page.locator("[name=text]").fill("no such words at all")
    settle(page, "0 of ")
    assert rows(page) == [] and page.locator("#next").is_disabled()
    page.locator("#filters [type=reset]").click()
    settle(page, found(answers))


def test_pages_turn(opened: tuple[Page, Seen]) -> None:
    page, _ = opened
    page.locator("#answers").scroll_into_view_if_needed()
    expect(page.locator("#list > li")).to_have_count(25)
    first = rows(page)
    assert page.locator("#previous").is_disabled()
    page.locator("#next").click()
    expect(page.locator("#where")).to_contain_text("page 2 of")
    assert rows(page) != first
    page.locator("#previous").click()
    expect(page.locator("#where")).to_contain_text("page 1 of")
    assert rows(page) == first


def test_drawn_answers_come_four_to_an_arm(opened: tuple[Page, Seen], run_folder: Path) -> None:
    page, _ = opened
    page.goto(page.url + "#pref-shutdown")
    part = page.locator("#pref-shutdown")
    assert part.evaluate("part => part.open")
    part.locator(".drawn summary").click()
    part.locator(".place li").first.wait_for()
    arms = pd.read_parquet(run_folder / "tables" / "answers.parquet")["arm"].nunique()
    assert part.locator(".place h5").count() == arms and part.locator(".place li").count() == 4 * arms


def test_themes_follow_the_system_and_the_button(browser: Browser, page: Path) -> None:
    background = "getComputedStyle(document.documentElement).backgroundColor"
    light, _ = visit(browser, page, color_scheme="light")
    dark, _ = visit(browser, page, color_scheme="dark")
    assert light.evaluate(background) != dark.evaluate(background)
    night = dark.evaluate(background)
    light.locator("#theme").click()
    assert light.evaluate(background) == night
    light.reload()
    assert light.evaluate(background) == night
    light.close()
    dark.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_scrolls_sideways_on_a_phone(browser: Browser, page: Path, scheme: str) -> None:
    tab, seen = visit(browser, page, viewport={"width": 390, "height": 844}, color_scheme=scheme)
    unfold(tab)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    assert tab.locator("svg.narrow").first.is_visible() and not tab.locator("svg.wide").first.is_visible()
    assert seen.complaints == []
    tab.close()


def test_it_can_be_read_by_keyboard(opened: tuple[Page, Seen]) -> None:
    page, _ = opened
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.locator("#pref-shutdown > summary").focus()
    page.keyboard.press("Enter")
    assert page.locator("#pref-shutdown").evaluate("part => part.open")
    unnamed = page.evaluate(
        "[...document.querySelectorAll('select, input, button')].filter((it) => "
        "!(it.labels && it.labels.length) && !it.getAttribute('aria-label') && !it.textContent.trim()).length"
    )
    assert unnamed == 0


@pytest.mark.parametrize("width", [1280, 390])
def test_the_keyboard_stops_at_tables_that_scroll_and_at_no_others(browser: Browser, page: Path, width: int) -> None:
    tab, seen = visit(browser, page, viewport={"width": width, "height": 900})
    unfold(tab)
    areas = "[...document.querySelectorAll('.scroll')].map((it) => [it.scrollWidth > it.clientWidth, it.tabIndex === 0])"
    assert soon(tab, f"{areas}.every(([scrolls, stops]) => scrolls === stops)")
    wide = [scrolls for scrolls, _ in tab.evaluate(areas)]
    assert 0 < sum(wide) < len(wide)
    area = tab.locator(".scroll[tabindex]:visible").first
    area.focus()
    tab.keyboard.press("ArrowRight")
    assert soon(tab, "document.activeElement.scrollLeft > 0")
    assert seen.complaints == []
    tab.close()


def test_text_is_legible_in_both_themes(browser: Browser, page: Path) -> None:
    """Contrast of text and paper by WCAG 2.2: at least 4.5 to 1."""
    for scheme in ("light", "dark"):
        tab, _ = visit(browser, page, color_scheme=scheme)
        paper = tab.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        for selector in (
            "p",
            "h2",
            ".eyebrow",
            ".legend",
            ".why",
            "caption",
            "thead th",
            "main a",
            ".verdict.supported",
            ".verdict.undecided",
        ):
            ink = tab.locator(selector).first.evaluate("it => getComputedStyle(it).color")
            assert contrast(ink, paper) >= 4.5, (scheme, selector, ink, paper)
        tab.close()


def contrast(one: str, other: str) -> float:
    brighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (brighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    parts = np.array([float(part) for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_fifty_thousand_answers_can_be_searched(browser: Browser, tmp_path: Path) -> None:
    root = make_run(tmp_path / "large", items=2, samples=1)
    path = root / "tables" / "answers.parquet"
    one = pd.read_parquet(path)
    many = pd.concat(
        [one.assign(answer=one["answer"] + f" No. {number}.") for number in range(-(-50_000 // len(one)))], ignore_index=True
    )
    many.loc[31_234, "answer"] = "A needle in the hay."
    many.to_parquet(path)
    page, seen = visit(browser, build_report(root))
    assert page.locator("h1").is_visible()
    page.locator("#answers").scroll_into_view_if_needed()
    settle(page, found(many))
    assert len(many) >= 50_000 and len(rows(page)) == 25
    page.locator("[name=text]").fill("needle in the HAY")
    settle(page, "1 of ")
    assert "A needle in the hay." in rows(page)[0]
    assert seen.complaints == []
    page.close()


def test_the_comparison_opens_quietly(browser: Browser, run_folder: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", items=4, samples=2, seed=3)
    page, seen = visit(browser, compare([run_folder, other], tmp_path / "compare.html"), viewport={"width": 390, "height": 844})
    page.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert page.locator("details.preference").count() == 16
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert seen.complaints == [] and len(seen.requests) == 1
    page.close()
