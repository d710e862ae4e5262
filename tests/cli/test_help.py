"""The page of help names what there is, and its examples compose."""

import re
import shlex
import sys
from pathlib import Path

import pytest
import yaml
from compose import CONF, composed, options, planned

from trpo_cli.cli import train as cli
from trpo_cli.cli.help import EXAMPLES, GROUPS, page
from trpo_cli.cli.messages import NO_KEY
from trpo_cli.config.messages import _COMPLAINTS


def test_every_option_of_every_group_stands_on_the_page_with_what_it_is():
    text = page(CONF)
    folders = {path.name for path in CONF.iterdir() if path.is_dir()} - {"hydra"}
    differences = {folder for folder in folders if "_" in folder}
    assert set(GROUPS) == folders - differences | {f"hydra/{path.name}" for path in (CONF / "hydra").iterdir()}
    assert len(differences) == 6 and not any(folder in text for folder in differences)
    for group in GROUPS:
        section = text.partition(f"\n{group}=…  ")[2].partition("\n\n")[0]
        for option in options(group):
            assert re.search(rf"^  {re.escape(option)} +[A-Za-z]\S* \S+", section, re.MULTILINE), f"{group}={option}"


def test_the_page_follows_the_files(tmp_path: Path):
    for path in CONF.rglob("*.yaml"):
        copy = tmp_path / path.relative_to(CONF)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    (tmp_path / "env/mine").mkdir()
    (tmp_path / "env/mine/first.yaml").write_text("# @package _global_\n# A task, see Eq. (3) of it. More.\nenv: 3\n")
    train = tmp_path / "train.yaml"
    train.write_text(train.read_text().replace("seed: 0  # ", "seed: 7  # really "))
    text = page(tmp_path)
    assert re.search(r"^  mine/first +A task, see Eq\. \(3\) of it$", text, re.MULTILINE)
    assert re.search(r"^  seed=7 +really of every random number", text, re.MULTILINE)


def test_the_keys_on_the_page_have_the_values_that_are_composed():
    cfg, _ = composed()
    keys = page(CONF).partition("(env=cartpole)\n")[2].partition("\n  Every other")[0].splitlines()
    found = dict(line.split()[0].split("=", 1) for line in keys)
    assert {"seed", "iterations", "workers", "name", "device", "optimizer.kl_limit", "sampler.gamma"} <= found.keys()
    for key, value in found.items():
        group, _, name = key.rpartition(".")
        node = cfg[group] if group else cfg
        assert name in node and node[name] == yaml.safe_load(value), key


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_compose(example: str):
    command, *words = [word for word in shlex.split(example) if not word.startswith("-") and word != "job"]
    first = [re.sub(r"=range\(5\)$", "=4", word if "[" in word else word.partition(",")[0]) for word in words]
    assert command == "trpo-train" and planned(*first)


def test_every_example_is_on_the_page_and_no_line_is_too_long():
    lines = page(CONF).splitlines()
    assert all(example in "\n".join(lines) for example in EXAMPLES)
    assert max(map(len, lines)) <= 140


def test_no_example_has_what_a_shell_expands_outside_quotes():
    texts = [*EXAMPLES, *NO_KEY.values(), *_COMPLAINTS.values()]
    assert not [text for text in texts if re.search(r"=\S*[][*?(){]", re.sub(r"'[^']*'|\{key\}|\{value\}", "", text))]
    readme = (CONF.parent / "README.md").read_text(encoding="utf-8")
    commands = [line for line in readme.splitlines() if re.match(r"(trpo-|\./scripts|PYTHONPATH=|    env\.)", line)]
    assert len(commands) > 20
    assert not [line for line in commands if re.search(r"[][*?(){]", re.sub(r"'[^']*'|#.*", "", line))]


def test_the_evaluations_settings_are_on_the_page_with_their_values():
    text = page(CONF)
    assert re.search(r"^ *eval\.every=null +iterations from one evaluation", text, re.M)
    assert re.search(r"^ *eval\.episodes=20 ", text, re.M)


def test_the_version_is_ours(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(sys, "argv", ["trpo-train", "--version"])
    cli.train()
    assert re.fullmatch(r"trpo_cli (\d+\.\d+.*|from a checkout that is not installed)\n", capsys.readouterr().out)
