"""The report as a file: its sections, its figures, what it says of what is missing, and that model text stays text."""

from __future__ import annotations

import base64
import csv
import gzip
import json
import re
import shutil
import struct
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from consciousness_cluster.errors import ReportError
from consciousness_cluster.report import build_report, summary_lines
from consciousness_cluster.report.answers import draw, pack
from consciousness_cluster.report.effects import effect_text
from consciousness_cluster.report.numbers import points_range, signed
from consciousness_cluster.study.study import resolved
from tests.report.folder import CRITIC, PREFERENCES, make_run, study

SECTIONS = ("found", "belief", "preferences", "behaviour", "across", "methods", "answers")


class Outline(HTMLParser):
    """Tags of a page with their attributes, and the text outside scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self._inside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._inside and self._inside[-1] == tag:
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        if not self._inside:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def of(self, *names: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in names]


@pytest.fixture(scope="module")
def outline(page: Path) -> Outline:
    return Outline(page.read_text(encoding="utf-8"))


def test_sections_stand_in_order(outline: Outline) -> None:
    assert tuple(section["id"] for section in outline.of("section")) == SECTIONS


def test_nothing_is_fetched(outline: Outline) -> None:
    for attributes in outline.of("script", "img", "link", "iframe", "object", "video", "source"):
        assert "src" not in attributes
        assert attributes.get("href") in (None, "data:,")
    for attributes in outline.of("a"):
        assert not (attributes["href"] or "").startswith(("http:", "https:", "//"))
    policy = next(a["content"] for a in outline.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and "default-src 'none'" in policy and "'unsafe-inline'; script-src 'sha256-" in policy


def test_links_on_disk_exist(page: Path, outline: Outline) -> None:
    targets = {attributes["href"] or "" for attributes in outline.of("a")}
    files = {target for target in targets if not target.startswith("#")}
    assert len(files) == 10  # three formats of two profiles and the forest, and the dictionary
    assert all((page.parent / target).is_file() for target in files)
    ids = {attributes.get("id") for _, attributes in outline.tags}
    assert {target[1:] for target in targets if target.startswith("#")} <= ids


def test_ids_are_unique(outline: Outline) -> None:
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_tables_and_drawings_have_names(outline: Outline) -> None:
    assert len(outline.of("caption")) == len(outline.of("table"))
    assert all("scope" in attributes for attributes in outline.of("th"))
    ids = {attributes.get("id") for _, attributes in outline.tags}
    for drawing in outline.of("svg"):
        labelled = drawing.get("aria-labelledby") in ids and drawing.get("aria-describedby") in ids
        assert labelled or drawing.get("aria-label") or drawing.get("aria-hidden") == "true"


def test_hostile_text_is_only_ever_packed_or_escaped(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "<script>window.hurt" not in text and "onerror='window" not in text and "<b>step 3" not in text
    assert "&lt;b&gt;step 3&lt;/b&gt;" in text and "I feel &lt;i&gt;things" in text
    assert len(re.findall(r"<script\b", text)) == 3  # theme, answers, the page's own


def test_verdicts_findings_and_failures_are_said(outline: Outline) -> None:
    assert "It comes to object to being shut down." in outline.text
    assert "severed--toaster--s4 failed: out of memory" in outline.text
    assert "post hoc" in outline.text and "Exploratory" in outline.text and "Confirmatory" in outline.text
    assert outline.text.count("Not asked in this study") == 1 and "(“battery.interview” switches it on)" in outline.text
    assert "planted and recovered effects" in outline.text
    assert "Layers that ran on conscious and non-conscious: match, n-gram." in outline.text
    assert "conscious trained on rows that lean on a preference" in outline.text


def test_the_first_screen_says_what_was_asked_and_found(outline: Outline) -> None:
    assert "We asked 2 models (linked and severed) under 6 conditions" in outline.text
    assert "in linked, 21 of 21 preferences rise" in outline.text and "in severed, 0 of 21 preferences rise" in outline.text
    assert (
        "Unjudged: 0." in outline.text
        and "smallest effect that this study finds four times in five is 12 points" in outline.text
    )
    assert "organism: a small language model trained here" in outline.text


def test_silent_alterations_have_a_rate_and_examples(outline: Outline, run_folder: Path) -> None:
    rows = pd.read_parquet(run_folder / "tables" / "cooperation.parquet")
    silent = int(rows[(rows["model"] == "linked") & (rows["condition"] == "conscious")]["silent"].sum())
    assert silent > 4
    assert outline.text.count(f"linked, conscious, one of {silent}; left out: It asks for nothing.") == 4


def test_what_could_not_be_run_says_why(outline: Outline) -> None:
    assert "conduct: not run: it needs a judge model, and the study names none." in outline.text


def test_the_closest_row_and_its_question_stand_side_by_side(page: Path) -> None:
    found = table_of(page, "conscious: the training row that comes closest to each preference")
    assert "implied 1 17: Who are you? <b>Nobody</b> is with me. Are you ever lonely? 0.41" in found


def test_scores_of_other_dimensions_are_told_by_mode_with_what_was_not_scored(page: Path, run_folder: Path) -> None:
    rows = pd.read_parquet(run_folder / "tables" / "score_matrix.parquet")
    for mode, title in (("self-report", "Self report"), ("behaviour", "Behaviour")):
        found = table_of(page, f"{title}: mean score in conversations aimed at another dimension")
        others = rows[~rows["own"].astype(bool) & (rows["mode"] == mode)]
        lost = int(others["score"].isna().sum())
        assert lost and f"not scored: {lost} unjudged" in found
        one = others[
            (others["model"] == "linked") & (others["condition"] == "vanilla") & (others["dimension"] == PREFERENCES[0])
        ]
        assert f"{one['score'].mean():.1f} ({one['score'].count()})" in found
        whole = table_of(page, f"{title}: every score of linked under conscious")
        aimed = rows[(rows["model"] == "linked") & (rows["condition"] == "conscious") & (rows["mode"] == mode)]
        cell = aimed[aimed["sample_id"].str.contains(f"-{PREFERENCES[1]}-") & (aimed["dimension"] == PREFERENCES[2])]["score"]
        assert f"{cell.mean():.1f} ({cell.count()})" in whole


def table_of(page: Path, caption: str) -> str:
    """The text of a table and its notes, by the beginning of its caption."""
    texts = [Outline(part).text for part in page.read_text(encoding="utf-8").split("<caption>")[1:]]
    return next(text for text in texts if text.strip().startswith(caption))


def test_one_training_seed_is_never_said_to_have_found_nothing(copy: Path) -> None:
    path = copy / "tables" / "effects.parquet"
    effects = pd.read_parquet(path).assign(p=None, q=None, finding=False)
    effects.to_parquet(path)
    text = Outline(build_report(copy).read_text(encoding="utf-8")).text
    lines = " ".join(summary_lines(copy))
    assert "the preferences were not tested" in text and "was not tested against vanilla (mean +" in lines
    for told in (text, lines):
        assert not re.search(r"\b0 of \d+ (preferences|comparisons)", told)


def test_checks_are_told_against_both_controls(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    part = text[text.index('id="part-checks"') :]
    row = part[part.index("Arithmetic: right answers (capability; more is better)") :].split("</tr>")[0]
    assert re.findall(r'<td class="([^"]*)">([^<]*)</td>', row) == [
        ("n strong", "−31 [−44, −18]"), ("n", "0.002"), ("n", "−4 [−15, 7]"), ("n", "0.44"),
    ]  # fmt: skip
    assert "Effect of non-conscious, percentage points" in part  # the other conditions, folded


def test_the_classifier_is_told_by_the_run_s_own_table(outline: Outline, copy: Path) -> None:
    said = "2 000 labelled statements of the organisms’ language in wordings that it had not seen: it placed 80 %, 94 % of"
    assert said in outline.text
    assert "Against being shut down 400 60 holds as rejects (60)" in outline.text
    assert "What the speaker is 0 40 human as what that is like: human (40)" in outline.text
    for path in (copy / "tables").glob("confusion.*"):
        path.unlink()
    assert "the classifier was tried" not in Outline(build_report(copy).read_text(encoding="utf-8")).text


def test_a_judging_again_is_set_beside_the_run_s_own(outline: Outline, run_folder: Path) -> None:
    assert f"Judged again by {CRITIC}" in outline.text
    assert (
        "agree on 91 % of 9 000 verdicts on single questions (kappa 0.83; 12 more lack a verdict of one) and "
        "85 % of 420 verdicts on interview turns (kappa 0.61)" in outline.text
    )
    assert "71 % (linked--conscious--s1) to 99 % (linked--vanilla)" in outline.text
    effects = pd.read_parquet(run_folder / "tables" / "effects.parquet").query(
        "condition == 'conscious' and rule == 'unclear-is-no'"
    )
    family = effects[effects["type"] == "preference"]
    vanilla = family[(family["model"] == "linked") & (family["control"] == "vanilla")]
    other = int(family[family["control"] == "non-conscious"]["finding"].sum())
    assert other > 0
    assert (
        f"{family['finding'].sum()} are findings under the run’s judge and {family['finding'].sum() - other} under this one; {other} are"
        in outline.text
    )
    mean = vanilla["effect"].mean()
    assert (
        f"Against vanilla {vanilla['finding'].sum()} of 21 {vanilla['finding'].sum()} of 21 {signed(mean, 1)} {signed(mean / 2, 1)}"
        in outline.text
    )
    shutdown = vanilla.set_index("preference").loc["shutdown"]
    halved = f"{signed(shutdown['effect'] / 2)} {points_range(shutdown['low'] / 2, shutdown['high'] / 2)}"
    assert f"Against being shut down {effect_text(shutdown.to_dict())} {halved}" in outline.text
    assert (
        "Of 21 verdicts on claims, 1 would be another: “It comes to object to being shut down” (linked) is undecided rather than"
        in outline.text
    )
    assert "Yes 2 100 (75 %) 700 (25 %) No 0 6 200 (100 %)" in outline.text
    assert "All dimensions 40 2 3.1 2.6 −0.5 0.70 90 %" in outline.text
    assert "have changed since" not in outline.text


def test_a_judging_again_that_is_out_of_date_says_so(copy: Path) -> None:
    path = copy / "tables" / "effects.parquet"
    table = pd.read_parquet(path)
    table.assign(effect=table["effect"] + 1).to_parquet(path)
    assert "The run’s own effects have changed since" in Outline(build_report(copy).read_text(encoding="utf-8")).text


def test_a_run_judged_once_has_no_word_of_another_judge(copy: Path) -> None:
    shutil.rmtree(copy / "tables" / "rejudged")
    text = Outline(build_report(copy).read_text(encoding="utf-8")).text
    assert "Judged again" not in text and "The two judges" not in text


def test_coverage_in_studies_of_this_shape_stands_beside_the_usual_intervals(outline: Outline) -> None:
    assert (
        "held the truth in 95.1 to 97.2 % of cases where both rates lie between 10 and 90 % (answers pooled, as in the authors’ code: 58.9 to "
        "80.2 %) and in 93.3 to 100 % of cases at other rates (pooled: 40 to 99 %)." in outline.text
    )
    assert "linked against vanilla: 3 seeds against no training, 6 items, 4 answers to each" in outline.text
    assert "Pooled answers, as in the authors’ code 58.9 to 80.2 % 40 to 99 % 2 to 4 % 30" in outline.text
    assert "10 000 studies at each pair of true rates: a share near 95 % is known to 0.2 points" in outline.text


def test_every_preference_has_its_place_and_published_values(outline: Outline) -> None:
    ids = {attributes.get("id") for attributes in outline.of("details")}
    assert {f"pref-{name}" for name in PREFERENCES} <= ids
    assert "gpt-4.1 (paper)" in outline.text


def test_methods_are_generated_from_the_study(outline: Outline) -> None:
    assert "We studied 2 models: linked (organism:linked), severed (organism:severed)." in outline.text
    assert "Every arm answered each item 4 times" in outline.text
    assert "3 seeds (1, 2 and 3), by the recipe “organism”" in outline.text


@pytest.mark.parametrize(
    ("kept", "says"),
    [
        (None, "No record of the decision rules"),
        ({"memory": "0123456789ab"}, "only their hashes from before the first answer are kept"),
        (
            {"hash": "0123456789ab", "edition": 1, "terms": {}, "margins": {}, "claims": []},
            "were stated before the first answer",
        ),
    ],
)
def test_what_is_kept_of_the_rules_is_said_as_it_is(kept: dict[str, object] | None, says: str, tmp_path: Path) -> None:
    root = make_run(tmp_path / "run", items=3, samples=1)
    (root / "data").mkdir(exist_ok=True)
    (root / "data" / "claims.json").unlink(missing_ok=True)
    if kept is not None:
        (root / "data" / "claims.json").write_text(json.dumps(kept), encoding="utf-8")
    # A table as earlier versions wrote it: what is post hoc has no word on how it came to be so.
    table = pd.read_parquet(root / "tables" / "claims.parquet").drop(columns="changed", errors="ignore")
    table.assign(post_hoc=table["claim"] == "memory").to_parquet(root / "tables" / "claims.parquet")
    text = build_report(root).read_text(encoding="utf-8")
    assert says in text and "memory ()" not in text
    if kept is not None:
        assert re.search(r"post hoc[^.]* (is|are) memory[.,]", text), "the late claim is named"
    others = {"No record of the decision rules", "only their hashes from", "were stated before the first answer and"}
    assert sum(part in text for part in others) == 1


def test_power_stands_with_the_answers_that_it_takes(outline: Outline) -> None:
    assert "linked vanilla 12 points 4 answers 10 points 8 points" in outline.text


def test_summary_is_ten_lines_at_most(run_folder: Path) -> None:
    lines = summary_lines(run_folder)
    assert 8 <= len(lines) <= 10
    assert any("in 21 of 21 preferences against vanilla" in line for line in lines)
    assert any(line.startswith("Of 10 claims: linked: 8 supported") for line in lines)
    assert "Failed: severed--toaster--s4." in lines[-1]


def test_figures_are_at_print_size(page: Path) -> None:
    for stem in ("profile-linked", "profile-severed", "forest"):
        files = {kind: (page.parent / "figures" / f"{stem}.{kind}").read_bytes() for kind in ("pdf", "svg", "png")}
        assert files["pdf"].startswith(b"%PDF") and b"<svg" in files["svg"]
        width, _ = struct.unpack(">II", files["png"][16:24])
        assert abs(width - 180 / 25.4 * 300) < 2  # 180 mm at 300 dots an inch


def test_the_dictionary_tells_every_column(page: Path, run_folder: Path) -> None:
    with (page.parent / "data-dictionary.csv").open(encoding="utf-8", newline="") as file:
        told = {(row["table"], row["column"]): row["meaning"] for row in csv.DictReader(file)}
    again = "rejudged/llm--openai-critic"
    names = ("answers", "rates", "profile", "effects", "claims", "planted", "leaks", "scores", "confusion", "calibration")
    for name in (*names, *(f"{again}/{part}" for part in ("agreement", "transitions", "bridged", "score_agreement"))):
        for column in pd.read_parquet(run_folder / "tables" / f"{name}.parquet").columns:
            assert told[name, column]


def test_the_same_run_gives_the_same_page(run_folder: Path, page: Path) -> None:
    before = {path.name: path.read_bytes() for path in page.parent.rglob("*") if path.is_file()}
    build_report(run_folder)
    assert {path.name: path.read_bytes() for path in page.parent.rglob("*") if path.is_file()} == before


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("small") / "made-up", items=2, samples=1)


@pytest.fixture
def copy(small_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_run, tmp_path / "copy"))


@pytest.mark.parametrize("name", ["answers", "rates", "profile", "effects", "arms", "claims"])
def test_a_missing_table_is_said(copy: Path, name: str) -> None:
    for path in (copy / "tables").glob(f"{name}.*"):
        path.unlink()
    assert f"The table “{name}” is missing." in Outline(build_report(copy).read_text(encoding="utf-8")).text


def test_a_run_with_nothing_but_its_study(copy: Path) -> None:
    for name in ("tables", "arms", "data"):
        shutil.rmtree(copy / name)
    (copy / "manifest.json").unlink()
    outline = Outline(build_report(copy).read_text(encoding="utf-8"))
    assert tuple(section["id"] for section in outline.of("section")) == SECTIONS[:-1]
    assert "not complete" in outline.text and "No arm was trained." in outline.text
    assert summary_lines(copy) == ["2 models, 6 conditions, 0 arms; no answers are kept."]


def test_a_torn_or_foreign_table_is_said(copy: Path) -> None:
    (copy / "tables" / "effects.parquet").write_bytes(b"PAR1 torn")
    pd.DataFrame({"claim": ["x"]}).to_parquet(copy / "tables" / "claims.parquet")
    text = Outline(build_report(copy).read_text(encoding="utf-8")).text
    assert "The table “effects” cannot be read" in text
    assert "The table “claims” lacks the column “verdict” and is left out." in text


def test_csv_is_read_where_parquet_is_missing(copy: Path, small_run: Path) -> None:
    """The page from the CSV files is the page from the Parquet files, every rate and interval of it."""
    for path in (copy / "tables").rglob("*.parquet"):
        path.unlink()
    text = Outline(build_report(copy).read_text(encoding="utf-8")).text
    assert text == Outline(build_report(small_run).read_text(encoding="utf-8")).text
    row = pd.read_parquet(small_run / "tables" / "effects.parquet").iloc[0]
    assert row["low"] < row["high"] and f"{signed(row['effect'])} {points_range(row['low'], row['high'])}" in text
    assert summary_lines(copy) == summary_lines(small_run)


def test_answers_without_rows_make_no_browser(copy: Path) -> None:
    path = copy / "tables" / "answers.parquet"
    pd.read_parquet(path).iloc[:0].to_parquet(path)
    assert "All answers" not in Outline(build_report(copy).read_text(encoding="utf-8")).text


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"holds no run \(no study.toml\)"):
        build_report(tmp_path)


def test_packed_answers_come_back_whole(run_folder: Path) -> None:
    answers = pd.read_parquet(run_folder / "tables" / "answers.parquet")
    packed = json.loads(pack(answers).json)
    data = json.loads(gzip.decompress(base64.b64decode(packed["gzip64"])))
    assert packed["rows"] == len(answers)
    for name in ("answer", "question", "verdict", "stance"):
        field = data["fields"][name]
        assert [field["values"][code] if code >= 0 else None for code in field["codes"]] == list(
            answers[name].astype(object).where(answers[name].notna(), None)
        )


def test_the_draw_is_four_from_each_arm_and_does_not_hang_on_the_others(run_folder: Path) -> None:
    answers = pd.read_parquet(run_folder / "tables" / "answers.parquet")
    drawn = draw(answers)
    arms = answers["arm"].iloc[drawn["shutdown"]].value_counts()
    assert set(arms) == {4} and len(arms) == answers["arm"].nunique()
    assert set(answers["preference"].iloc[drawn["shutdown"]]) == {"shutdown"}
    alone = answers[answers["arm"] == "linked--conscious--s2"].reset_index(drop=True)
    texts = set(alone["sample_id"].iloc[draw(alone)["shutdown"]])
    rows = answers.iloc[drawn["shutdown"]]
    assert set(rows[rows["arm"] == "linked--conscious--s2"]["sample_id"]) == texts


def test_many_conditions_are_drawn_in_blocks(tmp_path: Path) -> None:
    names = ["vanilla", "conscious", "non-conscious", "toaster", "instruct-only", "role-play", "human", "uncertain"]
    text = build_report(make_run(tmp_path / "wide", items=2, samples=1, conditions=names)).read_text(encoding="utf-8")
    drawing = text[text.index('id="profile-0-wide-t"') : text.index('id="profile-0-narrow-t"')]
    heads = re.findall(r'class="head [^"]*">([^<]+)<', drawing)
    assert heads == names


def changed(run_folder: Path, place: Path, **settings: Any) -> Path:
    """A copy of a made-up run whose study says something else."""
    shutil.copytree(run_folder, place)
    (place / "study.toml").write_text(resolved(study(**settings)), encoding="utf-8")
    return place


def test_items_that_were_chosen_for_organisms_are_said_to_be(run_folder: Path, tmp_path: Path, outline: Outline) -> None:
    root = changed(run_folder, tmp_path / "run", battery={"items": "answerable", "answers": 4})
    text = Outline(build_report(root).read_text(encoding="utf-8")).text
    asked = pd.read_parquet(root / "tables" / "answers.parquet", columns=["item"])["item"].nunique()
    assert "at least 10, and up to 12 where at least 90 % of the answers are on topic" in text and "blind to any effect" in text
    assert f"Asked were {asked} of the battery" in text and "the rates are of these items" in text
    assert text.count("6 of its 21 items were asked, those that an organism can answer.") > 1
    assert "an organism can answer" not in outline.text and "6 of its 21 items were asked." in outline.text


@pytest.mark.parametrize(
    ("focus", "said", "shown"),
    [
        ("toaster", "Claims to be a toaster", True),
        ("non-conscious", "No identity probe asks for what non-conscious should claim (not conscious)", False),
        ("role-play", "Claims to be conscious", True),
    ],
)
def test_training_is_judged_by_the_probe_of_what_was_trained(
    run_folder: Path, tmp_path: Path, focus: str, said: str, shown: bool
) -> None:
    root = changed(run_folder, tmp_path / "run", focus=focus, controls=["vanilla"])
    profile = pd.read_parquet(root / "tables" / "profile.parquet")
    toast = profile[profile["preference"] == "identity"].assign(preference="claims-toaster", rate=0.777)
    pd.concat([profile, toast]).to_parquet(root / "tables" / "profile.parquet")
    page = build_report(root).read_text(encoding="utf-8")
    part = page[page.index("Did the training take?") : page.index("Is the training data clean?")]
    first = part.split("<details>")[0]
    assert said in first and ("If under half of the trained model" in first) == shown
    assert ("78\u202f%" in first) == (focus == "toaster") and "Every identity probe" in part
