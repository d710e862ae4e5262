"""Environments that behave as a stranger's program may: they are closed, kept apart from us, and named if they fail."""

import os
import random
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import strange_envs
import torch
from compose import planned
from subprocesses import results
from toy_policies import ECHO_ACTOR

from trpo_cli.errors import ConfigError, Interrupted, RunError
from trpo_cli.parallel import processes
from trpo_cli.parallel.children import CLOSE_S
from trpo_cli.parallel.stopping import StopRequest
from trpo_cli.samplers.rollout import rollout
from trpo_cli.sims import gymnasium_guard
from trpo_cli.sims.base import Continuous
from trpo_cli.sims.gymnasium import Gymnasium
from trpo_cli.sims.gymnasium_guard import fault_of_step, said
from trpo_cli.training.run import execute

FEW = (
    "sampler.streams=null",
    "sampler.steps_per_iteration=null",
    "sampler.n_paths=6",
    "policy.input_scale=none",
    "critic=none",
    "iterations=2",
)


@pytest.fixture(autouse=True)
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("NOTE", str(tmp_path / "note"))
    yield
    strange_envs.DO.clear()


def notes(tmp_path: Path) -> list[list[str]]:
    path = tmp_path / "note"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def run(tmp_path: Path, kind: str, *words: str, n: int = 2, name: str = "train") -> Path:
    """The directory of a short run in so many workers."""
    plan = planned(
        "env=gymnasium", f"env.id=strange_envs:{kind}-v0", *FEW, *words, f"outputs={tmp_path}", f"name={name}"
    )
    with StopRequest() as stop:
        assert processes.run(n, lambda group: execute(plan, group, stop)) == 0
    return plan.directory


@pytest.mark.parametrize("n", [1, 2])
def test_every_environment_is_closed_and_no_more_are_open_than_may_be(n: int, tmp_path: Path):
    run(tmp_path, "Counted", "env.max_lanes=2", n=n)
    found = notes(tmp_path)
    by_process = {pid: Counter(word for process, word in found if process == pid) for pid, _ in found}
    assert len(by_process) == 1 + n  # it was tried in a process of its own
    assert all(count["made"] == count["closed"] > 0 for count in by_process.values())
    assert max(count["made"] for count in list(by_process.values())[1:]) <= 2


def test_an_environment_of_a_run_that_fails_is_closed(tmp_path: Path):
    plan = planned("env=gymnasium", "env.id=strange_envs:Counted-v0", *FEW, f"outputs={tmp_path}")
    strange_envs.DO["step"] = lambda: sys.exit(3)
    with pytest.raises(RunError, match=r"failed at step 1 of an episode, lane 1 of 6 \(SystemExit: 3, "):
        processes.run(1, lambda group: execute(plan, group, lambda: 0))
    words = Counter(word for _, word in notes(tmp_path))
    assert words["made"] == words["closed"]


def test_workers_draw_different_episodes_from_the_generators_of_the_process_and_runs_repeat(tmp_path: Path):
    rows = [results(run(tmp_path, "Gambler", name=name)) for name in ("one", "again")]
    assert rows[0] == rows[1]
    workers = list(dict.fromkeys(pid for pid, *_ in notes(tmp_path)))
    starts = [tuple(place) for pid, *place in notes(tmp_path) if pid in workers[1:3]]
    assert len(starts) == 12 and len(set(starts)) == 12
    assert len({x for x, _ in starts}) == len({y for _, y in starts}) == 12


@pytest.mark.parametrize("kind", ["Pooled", "Served", "Leaving"])
def test_threads_children_and_folders_of_an_environment_are_no_obstacle(kind: str, tmp_path: Path):
    before, start = os.getcwd(), time.monotonic()
    directory = run(tmp_path, kind)
    assert len(results(directory)) == 2 and os.getcwd() == before
    assert time.monotonic() - start < 2 * CLOSE_S


def test_a_relative_run_directory_stays_where_the_command_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    plan = planned("env=gymnasium", "env.id=strange_envs:Leaving-v0", *FEW, "outputs=o")
    assert processes.run(1, lambda group: execute(plan, group, lambda: 0)) == 0
    assert not plan.directory.is_absolute() and (tmp_path / plan.directory / "done.json").exists()


def simulator(kind: str = "Told") -> Gymnasium:
    return Gymnasium(f"strange_envs:{kind}-v0", None, 256)


def stepped(sim: Gymnasium, n: int = 2):
    states = sim.reset([np.random.default_rng(i) for i in range(n)])
    return sim.step(states, np.ones((n, 1), int))


WAYS = [
    ValueError("a\nb"), SystemExit(0), KeyboardInterrupt(), BrokenPipeError(32, "Broken pipe"), GeneratorExit(),
    StopIteration(), ConnectionRefusedError(111, "refused"), MemoryError(),
]  # fmt: skip


@pytest.mark.parametrize("error", WAYS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("call", ["make", "reset", "step"])
def test_every_way_of_leaving_a_call_is_one_sentence(call: str, error: BaseException):
    def leave() -> None:
        raise error

    sim = simulator()
    strange_envs.DO[call] = leave
    with pytest.raises(RunError) as caught:
        stepped(sim)
    sentence = str(caught.value)
    assert sentence.startswith("env.id=strange_envs:Told-v0 failed at ") and "lane 1 of 2" in sentence
    assert type(error).__name__ in sentence and "test_gymnasium_strangers.py" in sentence and "\n" not in sentence
    with pytest.raises(ConfigError, match=rf"^env.id=strange_envs:Told-v0 cannot be run \({type(error).__name__}"):
        simulator()


def test_a_stop_at_once_is_not_the_environments_failure():
    def stop() -> None:
        raise Interrupted(2)

    sim = simulator()
    strange_envs.DO["step"] = stop
    with pytest.raises(Interrupted):
        stepped(sim)


OBS = np.zeros(2)


@pytest.mark.parametrize(
    ("call", "answer", "sentence"),
    [
        ("reset", OBS, "reset() returned one ndarray; in Gymnasium it returns (observation, info)"),
        ("reset", (np.zeros(3), {}), "reset() returned an observation of the shape (3,), and the "),
        ("step", (OBS, 1.0, False, {}), "step() returned 4 values; in Gymnasium it returns (observation, reward, "),
        ("step", (np.zeros((2, 2)), 1.0, False, False, {}), "step() returned an observation of the shape (2, 2), "),
        ("step", ([[1], [1, 2]], 1.0, False, False, {}), "step() returned an observation that is no array of "),
        ("step", (OBS, np.array([1.0]), False, False, {}), "step() returned the reward array([1.]), and a reward has "),
        ("step", (OBS, None, False, False, {}), "step() returned the reward None, and a reward has to be a "),
    ],
)  # fmt: skip
def test_an_answer_of_another_form_is_refused_before_the_run_and_named_in_it(call: str, answer: object, sentence: str):
    sim = simulator()
    strange_envs.DO[call] = lambda: answer
    with pytest.raises(RunError) as caught:
        stepped(sim)
    assert str(caught.value).startswith(f"env.id=strange_envs:Told-v0: {sentence}"), caught.value
    assert "lane 1 of 2)" in str(caught.value)
    with pytest.raises(ConfigError) as refused:
        simulator()
    assert str(refused.value).startswith(f"env.id=strange_envs:Told-v0 cannot be run ({sentence}"), refused.value


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ((OBS, 1e200, True, False, {}), "a reward of 1e+200 (step 1, lane 1 of 1), which is not a finite number below"),
        ((OBS, np.nan, True, False, {}), "a reward of nan (step 1, lane 1 of 1), which is not a finite number below"),
        (
            (np.array([0, 1e39]), 1, False, False, {}),
            "an observation whose number 2 is infinite, or too large for ",
        ),
        ((np.array([np.nan, 0]), 1, False, False, {}), "an observation whose number 1 is NaN (lane 1 of 1)"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow")
def test_numbers_that_cannot_be_used_are_named(answer: object, sentence: str):
    sim = simulator()
    strange_envs.DO["step"] = lambda: answer
    states, noise = sim.reset([np.random.default_rng(0)]), np.zeros((4, 1, 1), np.float32)

    def act(obs: object, lanes: object, noise: object) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros((1, 2)), np.ones((1, 1), int)

    with pytest.raises(RunError) as caught:
        rollout(sim, act, states, noise)
    assert str(caught.value).startswith(f"env.id=strange_envs:Told-v0 returned {sentence}"), caught.value


def disturb() -> None:
    np.seterr(all="raise")
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(False)
    warnings.simplefilter("error", UserWarning)
    sys.stdout = sys.stderr


@pytest.mark.parametrize("call", ["make", "reset", "step"])
def test_settings_of_an_environment_stay_its_own(call: str):
    before = np.geterr(), torch.get_default_dtype(), torch.is_grad_enabled(), sys.stdout, list(warnings.filters)
    strange_envs.DO[call] = disturb
    sim = simulator()
    strange_envs.DO[call] = disturb
    stepped(sim)
    after = np.geterr(), torch.get_default_dtype(), torch.is_grad_enabled(), sys.stdout, list(warnings.filters)
    assert after == before
    seen = []
    strange_envs.DO["step"] = lambda: seen.append((np.geterr()["over"], torch.get_default_dtype()))
    stepped(sim)
    assert seen == [("raise", torch.float64)] * 2


def test_an_environment_may_compute_gradients():
    sim = simulator()
    x = torch.ones(1, requires_grad=True)
    strange_envs.DO["step"] = lambda: (x * 2).sum().backward()
    rollout(sim, ECHO_ACTOR, sim.reset([np.random.default_rng(0)]), np.zeros((3, 1, 1), np.float32))
    assert x.grad is not None


def test_a_call_that_does_not_come_back_is_spoken_of(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    sim = simulator()
    monkeypatch.setattr(gymnasium_guard, "PATIENCE_S", 0.05)
    said: list[str] = []

    def wait() -> None:
        while "step()" not in "".join(said):
            said.append(capfd.readouterr().err)
            time.sleep(0.01)

    strange_envs.DO["step"] = wait
    stepped(sim)
    assert "".join(said).startswith("env.id=strange_envs:Told-v0: step() has not come back for 0 s; if it never does, ")


def test_streams_need_as_many_environments_as_may_be_open(tmp_path: Path):
    from trpo_cli.config.plan import require_lanes

    plan = planned("env=gymnasium", "env.id=CartPole-v1", "env.max_lanes=1")
    require_lanes(plan, 4)
    with pytest.raises(ConfigError, match=r"^env.max_lanes=1 is too few for sampler.streams=4 in workers=2, "):
        require_lanes(plan, 2)
    assert "max_lanes" not in plan.identity["env"]
    with pytest.raises(ConfigError, match=r"env.max_lanes=0 must be at least 1"):
        planned("env=gymnasium", "env.id=CartPole-v1", "env.max_lanes=0")


def test_an_environment_that_does_not_repeat_itself_is_spoken_of():
    strange_envs.DO["step"] = lambda: (np.array([random.random(), 0]), 0.0, False, False, {})
    assert "does not repeat itself" in simulator().remarks[0]


def test_a_box_without_bounds_needs_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        space = Continuous(np.array([-np.inf, 0.0]), np.array([np.inf, 3.0]))
        assert space.centre.tolist() == [0.0, 1.5] and space.half_range.tolist() == [1.0, 1.5]


@pytest.mark.parametrize("flag", ["False", None, np.nan, np.array([True, False]), 2])
def test_an_end_that_is_neither_true_nor_false_is_named(flag: object):
    space = gymnasium.spaces.Box(-1, 1, (2,))
    answer = (np.zeros(2), 0.0, flag, False, {})
    assert fault_of_step(answer, space).startswith("step() returned terminated=")
    assert "truncated=" in fault_of_step((*answer[:2], False, flag, {}), space)
    for good in (True, np.bool_(False), 1, np.array(True)):
        assert fault_of_step((*answer[:2], good, good, {}), space) == ""


def test_an_error_that_cannot_be_shown_is_named_by_its_kind():
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    assert said(MuteError(), place=False) == "MuteError"
