"""The command in processes of its own: started, watched, signalled, and looked for once it should be gone."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any, Self
from uuid import uuid4

HELPERS = Path(__file__).parent
ROOT = HELPERS.parents[1]
PATIENCE_S = 120.0  # for what takes seconds on an idle machine
END_S = 30.0  # a command has to be gone this long after it has lost a worker
TINY = ("env._target_=faulty_env.Faulty", "sampler.n_paths=8", "step_limit=20", "iterations=6")
RUN = Path("outputs/train/cartpole/trpo-single/seed0")


def until(condition: Callable[[], Any], seconds: float = PATIENCE_S) -> Any:
    """What ``condition`` returns as soon as that is true."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)
    return answer


def progress(run: Path) -> list[dict[str, Any]]:
    """The whole rows of a run directory."""
    path = run / "progress.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def results(run: Path) -> list[dict[str, Any]]:
    """The rows less what measures time."""
    return [{key: value for key, value in row.items() if "time" not in key} for row in progress(run)]


def _take_terminal() -> None:
    """Make standard input the session's own terminal, whose Ctrl-C reaches its processes."""
    os.close(os.open(os.ttyname(0), os.O_RDWR))


class Launched:
    """``program`` in a session of its own, in ``folder``, with everything it starts marked as its own.

    out: descriptor of its standard output; terminal: it has one, and that is its standard output and input
    """

    def __init__(
        self, folder: Path, *program: str, out: int | None = None, terminal: bool = False, **environment: str
    ) -> None:
        (folder / "tmp").mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.mark = uuid4().hex
        path = os.pathsep.join([str(ROOT), str(HELPERS)])
        ours = {"PYTHONPATH": path, "MARK": self.mark, "TMPDIR": str(folder / "tmp"), "TERM": "xterm"}
        self._shown = b""
        self._terminal, screen = pty.openpty() if terminal else (-1, -1)
        with (folder / f"{self.mark}.out").open("wb") as file, (folder / f"{self.mark}.err").open("wb") as errors:
            self.process = subprocess.Popen(
                program,
                cwd=folder,
                env=os.environ | ours | environment,
                stdin=screen if terminal else subprocess.DEVNULL,
                stdout=screen if terminal else file if out is None else out,
                stderr=errors,
                start_new_session=True,
                preexec_fn=_take_terminal if terminal else None,
            )
        if terminal:
            os.close(screen)
            self._watcher = Thread(target=self._watch)
            self._watcher.start()

    def _watch(self) -> None:
        """Read the terminal, lest its buffer fill and stop the program."""
        while True:
            try:
                self._shown += os.read(self._terminal, 1 << 16)
            except OSError:  # nobody is there any more
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for pid in self.alive():
            os.kill(pid, signal.SIGKILL)
        self.process.wait()
        if self._terminal >= 0:
            self._watcher.join()
            os.close(self._terminal)

    def type(self, keys: bytes) -> None:
        """Press ``keys`` at the terminal."""
        os.write(self._terminal, keys)

    @property
    def cursor(self) -> bool:
        """True where the terminal's cursor was hidden and is visible again."""
        return self._shown.rfind(b"\x1b[?25h") > self._shown.rfind(b"\x1b[?25l") >= 0

    def output(self) -> str:
        return (self.folder / f"{self.mark}.out").read_text()

    def errors(self) -> str:
        return (self.folder / f"{self.mark}.err").read_text()

    def sentences(self) -> list[str]:
        """The lines that the command wrote about itself."""
        return [line for line in self.errors().splitlines() if line.startswith("trpo-train: ")]

    def alive(self) -> list[int]:
        """Every process that bears the mark, the first one first, wherever it hangs in the tree."""
        found = []
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                marked = f"MARK={self.mark}".encode() in (folder / "environ").read_bytes().split(b"\0")
                dead = (folder / "stat").read_text().rpartition(")")[2].split()[0] in "ZX"
            except OSError:
                continue
            if marked and not dead:
                found.append(int(folder.name))
        return sorted(found)

    def wait(self, seconds: float = PATIENCE_S) -> int:
        """The exit status; minus the signal where one killed it."""
        return self.process.wait(seconds)

    def ended(self, seconds: float = PATIENCE_S) -> int:
        """The exit status, once the process and all that it started are gone, and nothing is left behind."""
        status = self.wait(seconds)
        until(lambda: not self.alive(), seconds)
        assert not list((self.folder / "tmp").glob("trpo-*")), "a temporary folder was left"
        return status


def ordered(*words: str) -> list[str]:
    """The words of a short run with ``words`` laid over it, flags first."""
    return sorted([*TINY, *words], key=lambda word: not word.startswith("-"))


def trpo_train(folder: Path, *words: str, **options: Any) -> Launched:
    """``trpo-train`` on a run of six short iterations, a few tenths of a second each where FAULT is slow."""
    return Launched(folder, sys.executable, "-m", "trpo_cli", *ordered(*words), **options)


def finished(folder: Path, *words: str, **environment: str) -> Launched:
    """A command that has to succeed, at its end."""
    with trpo_train(folder, *words, **environment) as command:
        assert command.wait() == 0, command.errors()
    return command
