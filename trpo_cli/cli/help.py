"""The page that ``trpo-train --help`` prints, made from the values and comments in ``conf/``, so that it stays true."""

import re
from collections.abc import Sequence
from pathlib import Path

from hydra import compose, initialize_config_dir

from trpo_cli.config.messages import to_word
from trpo_cli.config.schema import register_schema

# What a user chooses. The other folders of conf/ hold what several options share, or what one pair of options needs.
GROUPS = {
    "env": "the task; it also sets numbers of policy, sampler and optimizer",
    "sampler": "how a batch is drawn",
    "optimizer": "how the policy is updated from a batch",
    "policy": "the network",
    "critic": "the value function, if there is one",
    "logger": "who gets copies of the rows of progress.jsonl; several: 'logger=[tensorboard,wandb]'",
    "scale": "how large a batch is, compared with the configured one",
    "experiment": "settings of a published experiment",
    "hydra/launcher": "where the jobs of a sweep (-m) run",
}
# The keys that the page lists: the ones that people set most often.
COMMON = {
    "sampler/single": ("n_paths", "steps_per_iteration", "gamma"),
    "policy/mlp": ("hidden_sizes",),
    "optimizer/trpo": ("kl_limit", "cg_iterations", "cg_damping", "fisher_fraction", "line_search"),
}
EXAMPLES = {
    "trpo-train": "the cart-pole, half a minute",
    "trpo-train env=hopper sampler=vine": "Table 2's settings of a task and a sampler",
    "trpo-train env=hopper sampler.n_paths=64 iterations=60": "a batch for a small machine",
    "trpo-train env=walker scale=laptop name=small": "an eighth of every batch, in a run directory of its own",
    "trpo-train env=swimmer optimizer=natural_gradient optimizer.penalty=0.1": "another method",
    "trpo-train env=hopper_v5 'policy.hidden_sizes=[32,32]' seed=3": "Gymnasium's task, a smaller network",
    "trpo-train experiment=fig4/hopper sampler=vine scale=laptop": "a curve of Figure 4",
    "trpo-train -m env=cartpole,swimmer sampler=single,vine 'seed=range(5)'": "twenty runs, and a table of them",
    "trpo-train -m seed=0,1,2,3 hydra/launcher=joblib_local": "several runs at a time",
    "trpo-train --cfg job --resolve env=hopper": "show every number of this run; run nothing",
}
PAGE = """\
Trust Region Policy Optimization (arXiv 1502.05477v5) as a command: trains a policy and leaves a run directory.

  trpo-train [flags] [group=option …] [key=value …]

The run is in outputs/<name>/<env>/<optimizer>-<sampler>/seed<seed>/. The same command again continues it where it
stopped, and leaves a finished run alone; trpo-train continue=DIRECTORY iterations=… does so wherever it lies, with the
run's own configuration. trpo-eval scores and films what was learnt, trpo-report draws figures.

{groups}

keys, with their values if you set nothing (env=cartpole)
{keys}
  Every other number of conf/ is set by its name in the same way; --cfg job shows them all.

flags
  -m                one job for each combination of the values between commas; at the end a table of the results
  --cfg job         show the composed configuration and run nothing
  --config-dir DIR  options of your own: DIR/env/mine.yaml is env=mine
  --hydra-help      the flags that come with Hydra

examples
{examples}"""


def page(conf: Path, own: Sequence[Path] = ()) -> str:
    """The page; ``conf`` is the folder of YAML files, ``own`` those of ``--config-dir``."""
    groups = [f"{group}=…  {meaning}\n{_columns(options(conf, group, own))}" for group, meaning in GROUPS.items()]
    return PAGE.format(
        groups="\n\n".join(groups), keys=_columns(_keys(conf)), examples=_columns(EXAMPLES, after="# ", widest=60)
    )


def options(conf: Path, group: str, own: Sequence[Path] = ()) -> dict[str, str]:
    """Each option of a group, and the first sentence of the comment that its file begins with."""
    folders = [root / group for root in (*own, conf)]  # of two files with one name the shipped one counts
    files = {
        path.relative_to(folder).with_suffix("").as_posix(): path
        for folder in folders
        for path in folder.rglob("*.yaml")
    }
    return {option: _purpose(files[option]) for option in sorted(files)}


def _purpose(path: Path) -> str:
    comment = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        if "@package" not in line:
            comment.append(line.removeprefix("#").strip())
    text = re.sub(r"^trpo-train .*?: ", "", " ".join(comment))
    return re.split(r"(?<!Eq)(?<!al)\.(?: |$)", text)[0]


def _keys(conf: Path) -> dict[str, str]:
    """``key=value`` for the root's keys and the common ones, and the comments on their lines."""
    register_schema()
    with initialize_config_dir(version_base="1.3", config_dir=str(conf)):
        cfg = compose("train")
    found = {f"{name}={_value(cfg[name])}": comment for name, _, comment in _lines(conf / "train.yaml")}
    for name, _, comment in _lines(conf / "train.yaml", "eval"):
        found[f"eval.{name}={_value(cfg.eval[name])}"] = comment
    for option, names in COMMON.items():
        group = option.partition("/")[0]
        for name, usual, comment in _lines(conf / f"{option}.yaml"):
            if name in names:
                value = _value(cfg[group][name])
                usual_value = value == usual.replace(" ", "")
                text = comment if usual_value else comment.rpartition("; ")[0]  # the source is the usual value's
                found[f"{group}.{name}={value}"] = text
    return found


def _lines(path: Path, section: str = "") -> list[tuple[str, str, str]]:
    """Key, value and comment of the lines that are not indented, or of those of a section."""
    text = path.read_text(encoding="utf-8")
    if section:
        text = text.partition(f"\n{section}:\n")[2].partition("\n\n")[0].replace("\n  ", "\n").removeprefix("  ")
    return re.findall(r"^(\w+): (.+?)  # (.*)$", text, re.M)


def _value(value: object) -> str:
    return to_word(value).replace(" ", "")


def _columns(lines: dict[str, str], after: str = "", widest: int = 36) -> str:
    width = min(max(map(len, lines)), widest)
    return "\n".join(f"  {left:{width}}  {after}{right}".rstrip() for left, right in lines.items())
