"""Laws of trpo-eval: it scores the policy that was trained, over episodes that its seed decides."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from compose import executed, planned
from video_frames import frames

import trpo_cli
from trpo_cli.cli import train as cli
from trpo_cli.cli.evaluate import MEANING, USAGE, Request, _summary, evaluate, load_trained, parse, play
from trpo_cli.errors import ConfigError, RunWarning
from trpo_cli.samplers.randomness import Draw

LIMIT = 60
KEYS = ", ".join(MEANING)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run directory of a small policy that has learnt a little."""
    words = ("iterations=4", "sampler.n_paths=16", f"step_limit={LIMIT}", "optimizer.kl_limit=0.1")
    return executed(planned(*words, f"outputs={tmp_path_factory.mktemp('outputs')}"))


def score(run: Path, **words: Any) -> dict[str, Any]:
    return evaluate(Request(**{"run": str(run), "episodes": 8, **words}))


def test_the_summary_by_hand():
    assert _summary(np.array([1.0, 5.0]), np.array([10, 20]), np.full(2, np.nan), 60) == {
        "return_mean": 3.0,
        "return_standard_error": pytest.approx(2.0),
        "score": 3 / 60,
        "score_standard_error": pytest.approx(2 / 60),
        "length_mean": 15.0,
        "returns": [1.0, 5.0],
    }


def test_the_summary_is_what_the_returns_say(run: Path):
    result = score(run)
    returns = np.array(result["returns"])
    assert len(returns) == result["episodes"] == 8
    assert result["return_mean"] == returns.mean()  # to the last digit: returns may be tiny
    assert result["return_standard_error"] == pytest.approx(returns.std(ddof=1) / np.sqrt(8), rel=1e-12)
    assert result["score"] == returns.mean() / LIMIT
    assert 1 <= result["length_mean"] <= LIMIT and result["iterations"] == 4
    assert 9 * result["length_mean"] < result["return_mean"] <= 10 * result["length_mean"]


def test_no_episode_starts_where_training_did_whatever_the_seed(run: Path):
    sim, policy, theta, _, _ = load_trained(run)
    begun: list[np.ndarray] = []

    class Watched:
        """The simulator, noting where its lanes begin."""

        def __getattr__(self, name: str) -> Any:
            return getattr(sim, name)

        def reset(self, rngs: Any) -> Any:
            begun.append(sim.reset(rngs))
            return begun[-1]

    play(Watched(), policy, theta, Request(str(run), seed=0), 1, range(8))  # type: ignore[arg-type]
    seen = np.array([sim.reset(Draw(0, i).generators("initial_state", range(16))) for i in range(4)]).reshape(-1, 4)
    assert begun[0].shape == (8, 4) and not np.isin(begun[0], seen).any()


@pytest.mark.parametrize("greedy", [True, False])
def test_greedy_episodes_are_those_of_the_mode_and_others_have_noise_of_their_own(run: Path, greedy: bool):
    sim, policy, theta, _, _ = load_trained(run)
    for lane, value in enumerate(score(run, greedy=greedy, episodes=3, seed=4)["returns"]):
        states, total = sim.reset([Draw(4).generator("evaluation_start", lane)]), 0.0
        noise = policy.dist.draw_noise(Draw(4).generator("evaluation", lane), (LIMIT,))
        for t in range(LIMIT):
            mean, log_std = policy.params(theta, policy.tensor(sim.observe(states))).split(1, 1)
            action = mean if greedy else mean + log_std.exp() * torch.from_numpy(noise[t])
            step = sim.step(states, sim.action_space.controls(action.numpy()))
            total, states = total + step.rewards[0], step.states
            if step.terminated[0]:
                break
        assert value == pytest.approx(total, abs=1e-5)


def test_the_policy_is_the_trained_one(run: Path):
    _, policy, theta, _, iterations = load_trained(run)
    last = torch.load(run / "checkpoint.pt", weights_only=True)["state"]["theta"]
    first = policy.initial(Draw(0).generator("initial_policy"))
    assert iterations == 4 and torch.equal(theta, last) and not torch.allclose(theta, first)
    np.testing.assert_array_equal(policy.input_map.half_range, [2.4, 4.0, 0.2, 4.0])
    fresh = json.loads((run / "progress.jsonl").read_text().splitlines()[0])["collect/episode_return"]
    assert score(run, episodes=100)["return_mean"] > 1.5 * fresh


def test_the_seed_decides_every_episode_and_their_number_none(run: Path):
    first, again, other, fewer = score(run), score(run), score(run, seed=1), score(run, episodes=3)
    assert first == again and first["returns"] != other["returns"]
    assert fewer["returns"] == first["returns"][:3]
    assert score(run, greedy=True)["returns"] != first["returns"]
    assert score(run, episodes=1)["return_standard_error"] is None


def test_an_evaluation_of_an_earlier_policy_is_kept(tmp_path: Path):
    request = Request(run=str(tmp_path), episodes=3)
    request.json.write_text('{"iterations": 40, "episodes": 3}')
    request.keep_earlier(request.json, 40)
    assert request.json.exists()  # the same policy: the same numbers
    request.keep_earlier(request.json, 80)
    assert [path.name for path in tmp_path.iterdir()] == ["evaluation_episodes3_iterations40.json"]
    request.keep_earlier(request.json, 80)  # nothing there
    named = replace(request, out=str(tmp_path / "mine.json"))
    named.json.write_text('{"iterations": 40, "episodes": 3}')
    named.keep_earlier(named.json, 80)
    assert named.json.exists()


def test_a_damaged_checkpoint_gives_way_to_its_predecessor(run: Path, tmp_path: Path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "checkpoint.pt").write_bytes(b"rubbish")
    with pytest.warns(RunWarning, match=r"copy/checkpoint\.pt is damaged; the state after 3 iterations is used$"):
        assert score(copy)["iterations"] == 3
    (copy / "checkpoint.previous.pt").unlink()
    with pytest.raises(ConfigError, match=r"copy has no checkpoint that can be read: checkpoint\.pt damaged$"):
        score(copy)
    (copy / "checkpoint.pt").unlink()
    with pytest.raises(ConfigError, match=r"copy has no checkpoint: train it first$"):
        score(copy)


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("episodes=0", "episodes=0 must be at least 1"),
        ("video_episodes=0", "video_episodes=0 must be at least 1"),
        ("seed=-1", "seed=-1 must be >= 0"),
        ("episodes=abc", f"episodes=abc is not a whole number; for example: {USAGE}"),
        ("episodes=1.5", f"episodes=1.5 is not a whole number; for example: {USAGE}"),
        ("episodes=null", f"episodes=null is not possible: a value is needed; for example: {USAGE}"),
        ("greedy=maybe", f"greedy=maybe must be true or false; for example: {USAGE}"),
        ("episode=3", f"episode does not exist; did you mean episodes?; for example: {USAGE}"),
        (
            "xyz=3",
            f"xyz does not exist; known here: {KEYS}; for example: {USAGE}",
        ),
        ("=3", f"=3 is not key=value; for example: {USAGE}"),
        ("n_eval_episodes=3", f"n_eval_episodes does not exist; did you mean episodes?; for example: {USAGE}"),
        ("deterministic=true", f"deterministic does not exist; did you mean greedy?; for example: {USAGE}"),
        ("out=~/a.json", "out=~/a.json must be a path, with $HOME instead of ~"),
        ("video=~/a.mp4", "video=~/a.mp4 must be a path, with $HOME instead of ~"),
        ("greedy", f"greedy is not key=value; for example: {USAGE}"),
        ("out=${nowhere}", f"out refers to ${{nowhere}}, which does not exist; for example: {USAGE}"),
    ],
)
def test_bad_words_are_refused_in_one_sentence(word: str, sentence: str):
    with pytest.raises(ConfigError) as caught:
        parse(["run=x", word])
    assert str(caught.value) == sentence


def test_words_are_read_as_they_are_written():
    assert parse(["run=1", "greedy=true", "out=null", "seed=3"]) == Request("1", 100, True, 3, None)
    assert parse(["run=it's", "out={a"]).out == "{a"
    with pytest.raises(ConfigError, match=r"^run has no value; set run=…; for example: "):
        parse(["episodes=3"])


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Iterator[Any]:
    def trpo_eval(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["trpo-eval", *words])
        status: Any = 0
        try:
            cli.evaluate()
        except SystemExit as end:
            status = end.code
        return status, *capfd.readouterr()

    yield trpo_eval


def test_the_command_writes_the_file_and_says_the_mean(run: Path, tmp_path: Path, command: Any):
    out = tmp_path / "new/score.json"
    status, output, errors = command(f"run={run}", "episodes=8", f"out={out}")
    written = json.loads(out.read_text())
    assert status == 0 and errors == "" and written == score(run)
    assert output.startswith(f"return {written['return_mean']:.6g} ± ") and output.endswith(f"; written to {out}\n")


def test_two_evaluations_have_one_file_only_if_they_are_the_same(run: Path, command: Any):
    asked = {
        "evaluation": {},
        "evaluation_greedy": {"greedy": True},
        "evaluation_random": {"random": True},
        "evaluation_episodes1": {"episodes": 1},
        "evaluation_greedy_best_episodes20_seed3": {"greedy": True, "checkpoint": "best", "episodes": 20, "seed": 3},
    }
    for name, words in asked.items():
        assert Request(run=str(run), **words).json == run / f"{name}.json"
    for words in (["episodes=2"], ["episodes=2", "greedy=true"], ["episodes=3"]):
        assert command(f"run={run}", *words)[0] == 0
    for name, greedy, n in (("episodes2", False, 2), ("greedy_episodes2", True, 2), ("episodes3", False, 3)):
        found = json.loads((run / f"evaluation_{name}.json").read_text())
        assert (found["greedy"], len(found["returns"])) == (greedy, n)


def test_an_older_versions_evaluation_is_not_written_over(run: Path, command: Any):
    old = run / "evaluation.json"
    old.write_text(text := '{"episodes": 20, "seed": 0}')
    refusal = f"trpo-eval: {old} holds an evaluation with episodes=20, and this one has episodes=100: "
    assert command(f"run={run}") == (2, "", f"{refusal}give it another file with out=…\n")
    assert old.read_text() == text
    old.unlink()


def test_the_command_refuses_in_one_line(run: Path, tmp_path: Path, command: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("trpo_cli.cli.evaluate.play", None)  # which would raise
    film = str(tmp_path / "film")
    for words, status, sentence in (
        ((f"run={tmp_path}",), 2, f"trpo-eval: run={tmp_path} is not a run directory: it has no .hydra/config.yaml\n"),
        ((f"run={run}", "seed=x"), 2, f"trpo-eval: seed=x is not a whole number; for example: {USAGE}\n"),
        ((f"run={run}", "out=/proc/x/y"), 1, "trpo-eval: cannot write to /proc/x/y: No such file or directory\n"),
        ((f"run={run}", f"out={run}"), 1, f"trpo-eval: cannot write to {run}: Is a directory\n"),
        ((f"run={run}", "video=/proc/x.mp4"), 1, "trpo-eval: cannot write to /proc/x.mp4: No such file or directory\n"),
        ((f"run={run}", f"video={film}.gif"), 2, f"trpo-eval: video={film}.gif must end in .mp4\n"),
    ):
        assert command(*words) == (status, "", sentence)
    assert command()[0] == 2 and not list(tmp_path.iterdir())


def test_the_page_of_help_says_what_every_key_is(command: Any):
    status, page, errors = command("--help")
    assert (status, errors) == (0, "") and command("-h")[1] == page
    assert MEANING.keys() == Request.__dataclass_fields__.keys()
    for name, meaning in MEANING.items():
        assert re.search(rf"^  {name}=\S* +{re.escape(meaning)}$", page, re.MULTILINE)


def test_the_filmed_episodes_are_the_first_of_those_scored(run: Path, tmp_path: Path, command: Any):
    out = tmp_path / "film.mp4"
    words = (f"run={run}", "episodes=6", "seed=2", f"out={tmp_path / 'score.json'}")
    status, output, errors = command(*words, f"video={out}", "video_episodes=2")
    assert (status, errors) == (0, "") and output.endswith(f", film to {out}\n")
    with_film = json.loads((tmp_path / "score.json").read_text())
    command(*words)
    assert json.loads((tmp_path / "score.json").read_text())["returns"] == pytest.approx(with_film["returns"])
    fps, pictures = frames(out)
    assert fps == 20  # dt is 0.05 s
    assert len(pictures) == sum(1 + n_steps(with_film["returns"][lane]) for lane in (0, 1))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mp4", "score.json"]


def n_steps(episode_return: float) -> int:
    """Steps of an episode: all but the last pay nearly 10, and the last pays 0 where it ends before the limit."""
    return min(round(episode_return / 10) + 1, LIMIT)


@pytest.mark.parametrize("backend", ["egl", "disabled"])
def test_a_hopper_is_filmed_or_a_sentence_says_what_to_install(backend: str, tmp_path: Path):
    run = executed(planned("env=hopper", "iterations=1", "sampler.n_paths=2", f"outputs={tmp_path}"))
    film = tmp_path / "film.mp4"
    program = "from trpo_cli.cli.train import evaluate; evaluate()"
    words = [f"run={run}", "episodes=1", f"video={film}"]
    environment = os.environ | {"MUJOCO_GL": backend, "PYTHONPATH": str(Path(trpo_cli.__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", program, *words], env=environment, capture_output=True, text=True)
    if backend == "egl" and done.returncode == 0:  # the machine has EGL
        _, pictures = frames(film)
        assert pictures[0].shape == (360, 480, 3) and pictures[0].std() > 20
        assert np.abs(pictures[0] - pictures[-1]).max() > 50  # it fell
    else:
        assert done.returncode == 2 and done.stderr.count("\n") == 1 and not film.exists()
        assert "apt install libegl1" in done.stderr or "cannot be imported" in done.stderr


def test_a_run_from_before_a_setting_existed_can_be_evaluated(tmp_path: Path):
    words = ("sampler.streams=null", "sampler.steps_per_iteration=20", "policy.input_scale=none", "iterations=1")
    run = executed(planned("env=gymnasium", "env.id=CartPole-v1", *words, f"outputs={tmp_path}"))
    saved = run / ".hydra" / "config.yaml"
    text = saved.read_text()
    assert "  max_lanes: 256\n" in text
    saved.write_text(text.replace("  max_lanes: 256\n", ""))
    sim, *_ = load_trained(run)
    assert sim.max_lanes == 256
