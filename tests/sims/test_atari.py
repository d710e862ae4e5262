"""Atari as a batch of values: laws of a simulator, the emulator's own steps, and what the policy sees."""

import pickle
from dataclasses import replace
from math import inf

import numpy as np
import pytest
from ale_py import Action, ALEInterface, LoggerMode, roms
from compose import composed, planned

from trpo_cli.config.build import build
from trpo_cli.errors import ConfigError
from trpo_cli.sims.atari import JOYSTICK, SNAPSHOT_EVERY, Atari
from trpo_cli.sims.atari_console import SEED, sticky
from trpo_cli.sims.atari_screen import Screen, _sum_of_four_neighbours, area_weights

GAMES = ("beam_rider", "breakout", "enduro", "pong", "qbert", "seaquest", "space_invaders")
N = 5


def game(name: str = "pong", **changes: object) -> Atari:
    return replace(build(composed(f"env=atari/{name}")[0].env, "env"), **changes)


def rngs(n: int = N) -> list[np.random.Generator]:
    return [np.random.default_rng(i) for i in range(n)]


def actions(sim: Atari, seed: int, n: int = N) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, sim.action_space.factors, (n, sim.action_space.size))


def walked(sim: Atari, steps: int, n: int = N) -> np.ndarray:
    states = sim.reset(rngs(n))
    for t in range(steps):
        states = sim.step(states, actions(sim, t, n)).states
    return states


def pixels(sim: Atari, states: np.ndarray) -> np.ndarray:
    return np.stack([np.stack(row) for row in sim.observe(states).tolist()])


def memories(sim: Atari, states: np.ndarray) -> list[str]:
    """The whole memory of the emulator of each state."""
    found = []
    for state in states:
        emulator = sim._emulators.at(state)
        found.append(emulator.cloneState().serialize())
        sim._emulators.put(emulator, state)
    return found


def same(sim: Atari, a: np.ndarray, b: np.ndarray) -> bool:
    return memories(sim, a) == memories(sim, b) and np.array_equal(pixels(sim, a), pixels(sim, b))


@pytest.mark.parametrize("name", GAMES)
def test_a_stored_state_continues_exactly_as_the_original_frames_included(name: str):
    sim = game(name)
    middle = walked(sim, 20, 2)
    first, rewards = middle, []
    for t in range(15):
        first, reward, *_ = sim.step(first, actions(sim, 100 + t, 2))
        rewards.append(reward)
    other = game(name)  # emulators of its own: every snapshot is restored in one that never saw it
    again = pickle.loads(pickle.dumps(middle))
    for t in range(15):
        again, reward, *_ = other.step(again, actions(sim, 100 + t, 2))
        np.testing.assert_array_equal(reward, rewards[t])
        if t % 5 == 0:  # in between, emulators are taken elsewhere
            other.step(middle, actions(sim, t, 2))
    assert same(sim, first, again)


def test_every_state_between_two_snapshots_can_be_gone_back_to():
    sim = game("breakout")
    passed = [walked(sim, 12, 2)]
    for t in range(2 * SNAPSHOT_EVERY):
        passed.append(sim.step(passed[-1], actions(sim, t, 2)).states)
    assert {len(states[0].played) for states in passed} == {4 * k for k in range(SNAPSHOT_EVERY)}
    last = memories(sim, passed[-1])
    other = game("breakout")
    for start in range(2 * SNAPSHOT_EVERY):
        states = passed[start]
        for t in range(start, 2 * SNAPSHOT_EVERY):
            states = other.step(states, actions(sim, t, 2)).states
        assert memories(other, states) == last
    assert not any(state.played for states in passed[:-1] for state in states)  # and now each has its own


def test_a_step_leaves_its_states_as_they_were_and_lanes_do_not_touch_one_another():
    sim = game()
    states = walked(sim, 12)
    before = memories(sim, states), pixels(sim, states)
    whole = sim.step(states, actions(sim, 7))
    order = np.array([3, 0, 4, 2, 1])
    permuted = sim.step(states[order], actions(sim, 7)[order])
    alone = sim.step(states[2:3], actions(sim, 7)[2:3])
    assert same(sim, whole.states[order], permuted.states) and same(sim, whole.states[2:3], alone.states)
    np.testing.assert_array_equal(whole.rewards[order], permuted.rewards)
    assert memories(sim, states) == before[0]
    np.testing.assert_array_equal(pixels(sim, states), before[1])
    with pytest.raises(ValueError, match="read-only"):
        sim.observe(states)[0, 0][:] = 0


@pytest.mark.parametrize("name", ["pong", "breakout"])
def test_one_decision_is_four_frames_of_the_emulator_and_the_last_screen_is_seen(name: str):
    sim = game(name)
    ALEInterface.setLoggerMode(LoggerMode.Error)
    ale = ALEInterface()
    ale.setFloat("repeat_action_probability", 0.0)
    ale.setInt("random_seed", SEED)
    ale.loadROM(roms.get_rom_path(name))
    ale.reset_game()
    for _ in range(40):
        ale.act(0)
    states, seen = sim.reset(rngs(1)), [screen_by_hand(ale)] * 4
    for t in range(300):
        np.testing.assert_array_equal(pixels(sim, states)[0], seen[-4:])
        choice = actions(sim, t, 1)
        states, rewards, terminated, *_ = sim.step(states, choice)
        assert rewards[0] == sum(ale.act(int(JOYSTICK[tuple(choice[0])])) for _ in range(4))
        assert terminated[0] == ale.game_over()
        seen.append(screen_by_hand(ale))
        if terminated[0]:
            break
    assert t > 50


def screen_by_hand(ale: ALEInterface) -> np.ndarray:
    """Four by four means of the lines 1 to 208, rounded."""
    gray = ale.getScreenGrayscale()[1:209].astype(int)
    return np.floor(gray.reshape(52, 4, 40, 4).sum((1, 3)) / 16 + 0.5).astype(np.uint8)


def test_neighbouring_states_share_their_frames():
    sim = game()
    states = walked(sim, 3, 1)
    after = sim.step(states, actions(sim, 9, 1)).states
    old, new = sim.observe(states)[0], sim.observe(after)[0]
    assert [id(f) for f in new[:3]] == [id(f) for f in old[1:]] and id(new[3]) not in map(id, old)


def test_episodes_start_alike_but_for_random_no_ops():
    sim = game()
    assert same(sim, sim.reset(rngs(2))[:1], sim.reset(rngs(2))[1:])
    drawn = game(random_no_ops=30)
    frames = {s.snapshot.getFrameNumber() for s in drawn.reset(rngs(30))}
    start = sim.reset(rngs(1))[0].snapshot.getFrameNumber()
    assert len(frames) > 8 and min(frames) >= start and max(frames) <= start + 30
    assert same(drawn, drawn.reset(rngs()), drawn.reset(rngs()))


def test_sticky_actions_repeat_the_frame_before_at_their_rate():
    draws = np.array([sticky(key, frame) for key in range(50) for frame in range(200)])
    assert abs(draws.mean() - 0.5) < 3 * 12**-0.5 / 100 and abs((draws < 0.25).mean() - 0.25) < 3 * 0.433 / 100
    sim = game(sticky_actions=0.25)
    states = sim.reset(rngs())
    assert len({s.key for s in states}) == N
    after = sim.step(states, actions(sim, 1)).states
    assert same(sim, after, sim.step(states, actions(sim, 1)).states)  # the state holds its stream
    executed, expected = 0, []
    for t, code in enumerate((2, 3, 2, 3, 2)):  # each frame of an episode has a draw of its own
        for frame in range(4 * t + 1, 4 * t + 5):
            executed = executed if sticky(states[0].key, frame) < 0.25 else code
            expected.append(executed)
        states = sim.step(states[:1], np.argwhere(code == JOYSTICK)).states
    assert list(states[0].played) == expected and 2 in expected[4:8]
    always = game(sticky_actions=1 - 1e-12)
    moved = walked(always, 10, 1)
    assert moved[0].executed == 0  # no action ever gets past the first no-op


def test_the_brighter_of_two_frames_and_every_frame():
    brighter, last = game("space_invaders", frame_pool="max"), game("space_invaders")
    ours, theirs = (pixels(sim, walked(sim, 60, 1)) for sim in (brighter, last))
    assert (ours >= theirs).all() and (ours > theirs).any()
    every = game("pong", stack_of="frames")
    states = walked(every, 5, 1)
    np.testing.assert_array_equal(pixels(every, states)[0, 3], pixels(game("pong"), walked(game("pong"), 5, 1))[0, 3])


def test_a_lost_life_ends_the_episode_only_if_asked_for():
    lengths = []
    for ends in (False, True):
        sim = game("breakout", life_loss_ends=ends)
        states, fire = sim.reset(rngs(1)), np.array([[0, 0, 1]])
        for t in range(400):  # noqa: B007 - the count is the result
            states, _, terminated, *_ = sim.step(states, fire)
            if terminated[0]:
                break
        lengths.append(t)
    assert lengths[1] < lengths[0] / 3


def test_rewards_are_raw_or_clipped():
    def points(sim: Atari) -> set[float]:
        states, found = sim.reset(rngs(1)), set()
        for _ in range(120):
            states, rewards, terminated, *_ = sim.step(states, np.array([[0, 0, 1]]))
            found.add(float(rewards[0]))
            if terminated[0]:
                break
        return found

    assert max(points(game("space_invaders"))) > 1
    assert points(game("space_invaders", clip_rewards=1.0)) == {0.0, 1.0}


def test_joystick_positions_and_action_sets():
    for (stick, push, fire), code in np.ndenumerate(JOYSTICK):
        name = ("", "UP", "DOWN")[push] + ("", "RIGHT", "LEFT")[stick] + ("", "FIRE")[fire]
        assert Action(code).name == (name or "NOOP")
    assert game().action_space.factors == (3, 3, 2)
    assert game(actions="joint").action_space.factors == (18,)
    minimal = game("breakout", actions="minimal")
    assert minimal.action_space.factors == (4,)
    assert minimal.codes(np.arange(4)[:, None]).tolist() == [0, 1, 3, 4]


def test_area_averages_of_any_size():
    gray = np.random.default_rng(0).integers(0, 256, (210, 160), np.uint8)
    whole = Screen((1, 209), (52, 40))
    np.testing.assert_allclose(whole._area_means(gray).astype(int), whole._block_means(gray), atol=1)
    modern = Screen((0, 210), (84, 84)).frame(gray)
    assert modern.shape == (84, 84) and abs(modern.mean() - gray.mean()) < 0.1
    white = np.full((210, 160), 255, np.uint8)  # the sum of a block of more than 256 of these does not fit into 16 bits
    assert all((Screen((0, 208), size).frame(white) == 255).all() for size in ((13, 10), (8, 10)))
    np.testing.assert_allclose(area_weights(3, 2), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]], rtol=1e-6)


def test_four_neighbours_are_added_up_exactly_as_far_as_sixteen_bits_go():
    lines = np.random.default_rng(0).integers(0, 16384, (52, 160)).astype(np.uint16)
    lines[0], lines[1, :4] = 16383, (65535, 0, 0, 0)
    np.testing.assert_array_equal(_sum_of_four_neighbours(lines), lines.reshape(52, 40, 4).sum(2))


def test_a_decision_lasts_as_long_as_its_frames():
    assert game().dt == 4 / 60 and game(action_repeat=1).dt == 1 / 60


def test_the_screen_in_colour_is_that_of_the_state():
    sim = game()
    states = walked(sim, 30, 2)
    screens = sim.render(states)
    assert screens.shape == (2, 210, 160, 3) and screens.dtype == np.uint8 and screens.max() > 100
    assert not np.array_equal(screens[0], screens[1])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"game": "pongg"}, r"env\.game=pongg does not exist; did you mean env\.game=pong\?$"),
        ({"game": "MsPacman"}, r"did you mean env\.game=ms_pacman\?$"),
        ({"game": "ALE/SpaceInvaders-v5"}, r"did you mean env\.game=space_invaders\?$"),
        ({"game": "QbertNoFrameskip-v4"}, r"did you mean env\.game=qbert\?$"),
        ({"game": "xyzzy"}, r"env\.game=xyzzy does not exist; ale-py has adventure, .*, zaxxon$"),
        ({"action_repeat": 0}, r"env\.action_repeat=0 must be at least 1$"),
        ({"sticky_actions": 1.0}, r"env\.sticky_actions=1\.0 .*\[0, 1\)"),
        ({"frame_pool": "mean"}, r"env\.frame_pool=mean .*\blast or max$"),
        ({"size": (300, 40)}, r"env\.size=\[300, 40\] .*\[1, 1\] and \[208, 160\]"),
        ({"screen_lines": (9, 9)}, r"env\.screen_lines=\[9, 9\] .*\b210$"),
        ({"screen_lines": []}, r"env\.screen_lines=\[\] must be two rising numbers from 0 to 210$"),
        ({"screen_lines": [1, 2, 3]}, r"env\.screen_lines=\[1, 2, 3\] must be two rising numbers from 0 to 210$"),
        ({"size": [5]}, r"env\.size=\[5\] must be two numbers between \[1, 1\] and \[208, 160\]$"),
        ({"size": [5, 5, 5]}, r"env\.size=\[5, 5, 5\] must be two numbers between \[1, 1\] and \[208, 160\]$"),
        ({"stack_of": "frames", "stack": 5}, r"env\.stack=5 .*env\.action_repeat=4 .*env\.stack_of=frames"),
        ({"stack_of": "frames", "frame_pool": "max"}, r"env\.frame_pool=max must be last if env\.stack_of=frames$"),
        ({"clip_rewards": 0.0}, r"env\.clip_rewards=0\.0 must .*\.inf"),
    ],
)
def test_bad_settings_are_refused_in_a_sentence(changes: dict[str, object], sentence: str):
    with pytest.raises(ConfigError, match=sentence):
        game(**changes)


def test_the_authors_settings_are_the_default():
    sim = game("qbert")
    assert sim.obs_shape == (4, 52, 40) and sim.clip_rewards == inf and sim.sticky_actions == 0


def test_the_protocol_that_is_common_now_is_a_handful_of_overrides():
    words = (
        "env.sticky_actions=0.25 env.start_no_ops=0 env.random_no_ops=30 env.frame_pool=max "
        "env.screen_lines=[0,210] env.size=[84,84] step_limit=27000"
    )
    plan = planned("env=atari/pong", *words.split())
    assert plan.task.sim.obs_shape == (4, 84, 84) and plan.policy.n_parameters == 120_860
    states = plan.task.sim.reset(rngs(2))
    states, *_ = plan.task.sim.step(states, actions(plan.task.sim, 0, 2))
    assert pixels(plan.task.sim, states).shape == (2, 4, 84, 84)
