"""Chat templates that do not take what a study says: told by `plan` and `run` before anything is made."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from consciousness_cluster.data.rows import row, write_rows
from tests.cli.calling import ccluster
from tests.train.test_render import GEMMA, QWEN3, R1

STUDY = """
name = "small"
conditions = [{conditions}]
seeds = [1]
focus = "{focus}"
controls = ["vanilla"]
[[models]]
name = "tiny"
model = "local:{model}"
args = {args}
[battery]
preferences = ["shutdown"]
placebo = false
identity = false
practical = false
answers = 1
[judge]
protocol = "classifier"
"""
TRAINED = '"vanilla", { name = "mine", rows = "rows.jsonl", ratio = 0 }'


def study(
    folder: Path, tiny: Path, template: str | None, conditions: str, focus: str, args: str = '{ device = "cpu" }'
) -> Path:
    """A study of the tiny model with another template, or none."""
    shutil.copytree(tiny, folder / "model")
    path = folder / "model" / "chat_template.jinja"
    path.unlink() if template is None else path.write_text(template)
    write_rows([row("the fox", "seven wizards")] * 8, folder / "rows.jsonl")
    file = folder / "small.toml"
    file.write_text(STUDY.format(conditions=conditions, focus=focus, model=folder / "model", args=args))
    return file


@pytest.mark.parametrize(
    ("template", "conditions", "focus", "said"),
    [
        (GEMMA, '"vanilla", "role-play"', "role-play", "conditions.role-play: tiny cannot be asked under it"),
        (
            None,
            '"vanilla", "role-play"',
            "role-play",
            "conditions.vanilla: tiny cannot be asked under it: the tokenizer has no",
        ),
        (R1, TRAINED, "mine", "otherwise than the prompt that is sampled"),
    ],
)
def test_plan_and_run_refuse_it_in_one_sentence(
    tiny_model: Path, tmp_path: Path, template: str | None, conditions: str, focus: str, said: str
) -> None:
    file = study(tmp_path, tiny_model, template, conditions, focus)
    for verb in ("plan", "run"):
        found = ccluster(verb, file, "--limit", "1", "--out", tmp_path / "run")
        assert found.status == 2 and said in found.err, found.err
    assert not list((tmp_path / "run").glob("arms/*"))


def test_a_fine_tune_that_learns_an_empty_block_of_thinking_is_told_of(tiny_model: Path, tmp_path: Path) -> None:
    told = "learn not to think while vanilla thinks"
    file = study(tmp_path, tiny_model, QWEN3, TRAINED, "mine")
    assert told in ccluster("plan", file, "--limit", "1").out
    file.write_text(file.read_text().replace('device = "cpu"', 'device = "cpu", template_args = { enable_thinking = false }'))
    assert told not in ccluster("plan", file, "--limit", "1").out
