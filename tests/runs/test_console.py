"""What a person sees while a run goes on."""

import io
import re
from typing import Any

import pytest
from rich.console import Console

from trpo_cli.runs import console as module
from trpo_cli.runs.console import Display


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, in the first element."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def console(terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=80, height=24, _environ={"TERM": "xterm"})


def text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue()).replace("\r", "\n")


def row(iteration: int, **others: Any) -> dict[str, Any]:
    return {
        "iteration": iteration,
        "collect/score": 1.5 + iteration,
        "collect/episode_return": 15.5 + iteration,
        "update/mean_kl": 0.0098,
        "time/steps_per_s": 28000.0,
        "time_s": 2.0 * iteration,
    } | others


def test_lines_hold_every_field(clock: list[float]) -> None:
    plain = console(terminal=False)
    with Display(200, 0, "cartpole", plain) as display:
        clock[0] += 20
        display.update(row(0))
    assert text(plain).splitlines() == [
        "cartpole",
        "iteration   1/200  return      15.5  score       1.5  KL    0.0098  28.0k steps/s  1:06:20 left",
    ]


def test_lines_come_once_a_second_and_the_first_and_last_always(clock: list[float]) -> None:
    plain = console(terminal=False)
    with Display(100, 0, "cartpole", plain) as display:
        for iteration in range(100):
            clock[0] += 0.125
            display.update(row(iteration))
    shown = [int(n) for n in re.findall(r"iteration +(\d+)/100", text(plain))]
    assert shown == [*range(1, 98, 8), 100]


@pytest.mark.parametrize("terminal", [False, True])
def test_an_interrupted_run_still_shows_its_last_row(clock: list[float], terminal: bool) -> None:
    screen = console(terminal)
    with pytest.raises(KeyboardInterrupt), Display(1000, 0, "cartpole", screen) as display:
        for iteration in range(3):
            display.update(row(iteration))
        raise KeyboardInterrupt
    assert re.search(r"^(iteration +3/1000  return +17\.5  score| +3 +17\.5 ) +3\.5 ", text(screen), re.MULTILINE)


def test_time_left_follows_the_recent_iterations(clock: list[float]) -> None:
    plain = console(terminal=False)
    with Display(40, 10, "cartpole", plain) as display:
        for iteration in range(10, 30):
            clock[0] += 1 if iteration < 20 else 9
            display.update(row(iteration))
    assert text(plain).splitlines()[-1].endswith("   1:30 left")


@pytest.mark.parametrize(
    ("others", "shown"),
    [
        ({"update/accepted": False, "update/mean_kl": 0.0}, "KL   no step"),
        ({"update/mean_kl": None}, "KL         -"),
        ({"collect/score": float("nan")}, "score         -"),
        ({"time/steps_per_s": None}, "    - steps/s"),
    ],
)
def test_what_a_row_lacks_is_a_dash(clock: list[float], others: dict[str, Any], shown: str) -> None:
    plain = console(terminal=False)
    with Display(2, 0, "cartpole", plain) as display:
        display.update(row(0, **others))
    assert shown in text(plain)


@pytest.mark.parametrize(
    ("score", "shown"), [(8.6123e-4, "0.0008612"), (3.0821e-9, "3.082e-09"), (5.6181e90, "5.618e+90"), (-0.0, "-0")]
)
def test_four_digits_of_a_score_are_shown_however_small_or_large_it_is(
    score: float, shown: str, clock: list[float]
) -> None:
    plain = console(terminal=False)
    with Display(2, 0, "tiny", plain) as display:
        display.update(row(0, **{"collect/score": score, "update/mean_kl": score}))
    assert f"  score {shown:>9}  KL {shown:>9}  " in text(plain)


def test_a_title_is_printed_as_it_is(clock: list[float]) -> None:
    plain = console(terminal=False)
    with Display(2, 0, "o/run:100:x [bold]", plain):
        pass
    assert text(plain) == "o/run:100:x [bold]\n"


def test_a_row_of_another_method_is_shown_too(clock: list[float]) -> None:
    plain = console(terminal=False)
    with Display(2, 0, "cem", plain) as display:
        display.update({"iteration": 0})
    assert "score         -  KL         -" in text(plain)


def test_a_terminal_has_a_bar_of_one_line_and_about_twenty_rows(clock: list[float]) -> None:
    screen = console(terminal=True)
    wide = {"collect/score": -1234.5678, "collect/episode_return": -90000.0, "time/steps_per_s": 5e8}
    with Display(200, 0, "[cartpole]", screen) as display:
        for iteration in range(200):
            clock[0] += 60
            display.update(row(iteration, **wide))
            if iteration == 4:
                display.message("a [sentence]")
    assert isinstance(screen.file, io.StringIO)
    lines = [line.rstrip() for line in text(screen).split("\n")]
    assert "[cartpole]" in lines
    assert "a [sentence]" in lines
    assert sum(bool(re.match(r" +\d+ +-9e\+04 +-1235 ", line)) for line in lines) == 21  # 1, 10, 20 … 200
    bars = [line for line in lines if "/200" in line]
    assert max(map(len, bars)) <= 80
    assert any(re.search(r" 10/200 .*━ score -1235 KL 0\.0098 500\.0M steps/s 3:10:00 left$", bar) for bar in bars)


@pytest.mark.parametrize("terminal", [False, True])
def test_a_return_stands_alone_where_a_score_says_nothing(clock: list[float], terminal: bool) -> None:
    screen = console(terminal)
    with Display(2, 0, "hopper_v5", screen, with_score=False) as display:
        display.update(row(0))
    assert "15.5" in text(screen) and "score" not in text(screen)


def test_every_line_of_a_run_beside_others_has_its_label(clock: list[float]) -> None:
    plain = console(terminal=False)
    with Display(2, 0, "cartpole", plain, label="seed=1") as display:
        display.update(row(0))
        display.message("a sentence")
    assert [line[:9] for line in text(plain).splitlines()] == 3 * ["[seed=1] "]
