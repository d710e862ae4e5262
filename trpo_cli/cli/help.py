"""The page that ``trpo-train --help`` prints, made from the comments in ``conf/``, so that it cannot go stale."""

import re
from pathlib import Path

GROUPS = {
    "env": "the task, which brings its default policy and budgets along",
    "sampler": "how a batch is drawn",
    "optimizer": "what is made of it",
    "policy": "the network",
    "scale": "how much of the configured batch is drawn",
    "experiment": "settings as files of differences",
    "hydra/launcher": "where the jobs of a sweep (-m) run",
}
# Options whose keys stand on the page, with those that people set most.
COMMON = {
    "sampler/single": ("n_paths", "steps_per_iteration", "gamma"),
    "policy/mlp": ("hidden_sizes",),
    "optimizer/trpo": ("kl_limit", "cg_iterations", "cg_damping", "fisher_fraction", "line_search"),
}
EXAMPLES = {
    "trpo-train": "the cart-pole, half a minute",
    "trpo-train env=hopper sampler=vine": "Table 2's settings of a task and a sampler",
    "trpo-train env=hopper sampler.n_paths=64 iterations=60": "a batch for a small machine",
    "trpo-train env=walker scale=laptop name=small": "an eighth of every batch; a run directory of its own",
    "trpo-train env=swimmer optimizer=natural_gradient optimizer.penalty=0.1": "a rival of TRPO's",
    "trpo-train env=hopper_v5 policy.hidden_sizes=[32,32] seed=3": "Gymnasium's task, another network",
    "trpo-train experiment=fig4/hopper sampler=vine scale=laptop": "a curve of Figure 4",
    "trpo-train -m env=cartpole,swimmer sampler=single,vine 'seed=range(5)'": "twenty runs, and a table of them",
    "trpo-train -m seed=0,1,2,3 hydra/launcher=joblib_local": "several runs at a time",
    "trpo-train --cfg job --resolve env=hopper": "every number that this composes, and nothing run",
}
PAGE = """\
Trust Region Policy Optimization (arXiv 1502.05477v5) as a command: trains a policy and leaves a run directory.

  trpo-train [flags] [group=option …] [key=value …]

The run is in outputs/<name>/<env>/<optimizer>-<sampler>/seed<seed>/. The same command again resumes it where it
stopped and leaves a finished one alone. trpo-eval scores and films what was learnt, trpo-report draws figures.

{groups}

keys, each with what it is unless given
{keys}
  Any other number of conf/ is set by its name in the same way; --cfg job shows them all.

flags
  -m                one job for each combination of what commas separate; a table of the results ends it
  --cfg job         show the composed configuration and run nothing
  --config-dir DIR  options of your own: DIR/env/mine.yaml is env=mine
  --hydra-help      the flags that come with Hydra

examples
{examples}"""


def page(conf: Path) -> str:
    """The page; ``conf`` is the folder of YAML files."""
    groups = [f"{group}=…  {meaning}\n{_columns(options(conf, group))}" for group, meaning in GROUPS.items()]
    return PAGE.format(
        groups="\n\n".join(groups), keys=_columns(_keys(conf)), examples=_columns(EXAMPLES, after="# ", widest=60)
    )


def options(conf: Path, group: str) -> dict[str, str]:
    """Each option of a group, and the first sentence of the comment that its file begins with."""
    folder = conf / group
    files = sorted(folder.rglob("*.yaml"))
    return {path.relative_to(folder).with_suffix("").as_posix(): _purpose(path) for path in files}


def _purpose(path: Path) -> str:
    comment = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        if "@package" not in line:
            comment.append(line.removeprefix("#").strip())
    text = re.sub(r"^trpo-train .*?: ", "", " ".join(comment))
    return re.split(r"(?<!Eq)(?<!al)\.(?: |$)", text)[0]


def _keys(conf: Path) -> dict[str, str]:
    """``key=value`` for the root's keys and the common ones, and the comments on their lines."""
    root = {f"{name}={_value(value)}": comment for name, (value, comment) in _lines(conf / "train.yaml").items()}
    common = {}
    for option, names in COMMON.items():
        lines = _lines(conf / f"{option}.yaml")
        for name in names:
            value, comment = lines[name]
            common[f"{option.partition('/')[0]}.{name}={_value(value)}"] = comment
    return root | common


def _lines(path: Path) -> dict[str, tuple[str, str]]:
    """Key: value and comment, of the lines that are not indented."""
    return {name: (value, text) for name, value, text in re.findall(r"^(\w+): (.+?)  # (.*)$", path.read_text(), re.M)}


def _value(text: str) -> str:
    """What a key is unless given; another key decides where it is a reference."""
    return "…" if text.startswith("${") else text


def _columns(lines: dict[str, str], after: str = "", widest: int = 36) -> str:
    width = min(max(map(len, lines)), widest)
    return "\n".join(f"  {left:{width}}  {after}{right}".rstrip() for left, right in lines.items())
