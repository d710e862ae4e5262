"""The fraction of solved episodes, from environments that tell it in their info and from no others."""

import json
from pathlib import Path

import numpy as np
import pytest
from compose import executed, planned

from trpo_cli.cli.evaluate import Request, evaluate
from trpo_cli.samplers.streams import Streams

WALK = ("env=gymnasium", "iterations=2", "eval.every=2", "eval.episodes=6", "policy.input_scale=none")
STREAMS = ("sampler.steps_per_iteration=400", "sampler.streams=2")
WHOLE = ("sampler.steps_per_iteration=400", "sampler.streams=null")
VINE = ("sampler=vine", "critic=none", "sampler.n_states=4", "sampler.n_trunks=20", "sampler.trunk_steps=null")


@pytest.mark.parametrize("always", [False, True])
@pytest.mark.parametrize("words", [STREAMS, WHOLE, VINE], ids=["streams", "whole", "vine"])
def test_the_fraction_of_solved_episodes_is_logged(words: tuple[str, ...], always: bool, tmp_path: Path):
    env = ("env.id=gym_envs:GoalWalk-v0", f"env.kwargs={{always: {str(always).lower()}}}")
    run = executed(planned(*WALK, *env, *words, f"outputs={tmp_path}"))
    rows = [json.loads(line) for line in (run / "progress.jsonl").read_text().splitlines()]
    for row in rows:  # a walk ends at the right end, and is cut elsewhere
        assert row["collect/success_fraction"] == pytest.approx(row["collect/terminated_fraction"])
        assert 0 < row["collect/success_fraction"] < 1
    assert 0 <= rows[1]["eval/success_fraction"] <= 1
    found = evaluate(Request(run=str(run), episodes=40))
    solved = np.array(found["returns"]) > -3  # those cut have three steps
    assert solved.mean() <= found["success_fraction"] < 1


def test_where_the_environment_says_nothing_there_is_no_fraction(tmp_path: Path):
    run = executed(planned(*WALK, "env.id=gym_envs:Walk-v0", *STREAMS, f"outputs={tmp_path}"))
    assert "success" not in (run / "progress.jsonl").read_text()
    assert "success_fraction" not in evaluate(Request(run=str(run), episodes=2))


def test_streams_of_an_older_version_are_read():
    saved = Streams.begin(2).to_dict()
    saved["recent"] = saved["recent"].new_ones(5, 3)
    recent = Streams.from_dict(saved).recent
    assert recent.shape == (5, 4) and np.isnan(recent[:, 3]).all() and (recent[:, :3] == 1).all()
