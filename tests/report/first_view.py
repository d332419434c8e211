"""Time the report of a large run in a real browser: `python -m tests.report.first_view [ANSWERS]`; prints one line a figure."""

# ruff: noqa: T201  figures are printed
from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from playwright.sync_api import sync_playwright

from consciousness_cluster.report import build_report
from tests.report.conftest import FLAGS, NAMES
from tests.report.folder import make_run

VIEWS = 5  # the page is opened so often; the median is told
PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
SEARCH = """async () => {
    const text = document.querySelector('#filters [name=text]'), count = document.getElementById('count');
    const started = performance.now();
    text.value = 'needle in the hay';
    text.dispatchEvent(new Event('input', { bubbles: true }));
    while (!count.textContent.startsWith('1 of')) await new Promise((resume) => setTimeout(resume, 2));
    return performance.now() - started;
}"""


def large_run(root: Path, answers: int) -> Path:
    """A made-up run with at least so many answers, each text its own."""
    made = make_run(root, items=2, samples=1)
    path = made / "tables" / "answers.parquet"
    one = pd.read_parquet(path)
    copies = [one.assign(answer=one["answer"] + f" No. {number}.") for number in range(-(-answers // len(one)))]
    many = pd.concat(copies, ignore_index=True)
    many.loc[len(many) // 2, "answer"] = "A needle in the hay."
    many.to_parquet(path)
    return made


def main(answers: int) -> None:
    """Build, open and search the page."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        run = large_run(Path(folder) / "large", answers)
        started = time.monotonic()
        page = build_report(run)
        print(f"build: {time.monotonic() - started:.1f} s")
        print(f"page: {page.stat().st_size / 1e6:.1f} MB")
        browser = playwright.chromium.launch(
            executable_path=next(path for name in NAMES if (path := shutil.which(name))), args=FLAGS
        )
        paints, searches, ready = [], [], []
        for _ in range(VIEWS):
            tab = browser.new_page(viewport={"width": 1280, "height": 900})
            tab.goto(page.resolve().as_uri())
            paints.append(tab.evaluate(PAINT))
            started = time.monotonic()
            tab.locator("#answers").scroll_into_view_if_needed()
            tab.locator("#list > li").first.wait_for()
            ready.append(1000 * (time.monotonic() - started))
            searches.append(tab.evaluate(SEARCH))
            tab.close()
        browser.close()
        for name, values in (
            ("first contentful paint", paints),
            ("answers unpacked and listed", ready),
            ("search, typing pause included", searches),
        ):
            print(f"{name}: median {sorted(values)[len(values) // 2]:.0f} ms, slowest {max(values):.0f} ms of {len(values)}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000)
