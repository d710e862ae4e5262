"""Writes a trained policy to a file for other programs; what ``trpo-export`` does."""

from pathlib import Path

from trpo_cli.config.messages import unknown_key
from trpo_cli.errors import ConfigError, RunError

EXAMPLE = "trpo-export run=outputs/train/hopper_v5/trpo-single-mlp/seed0 out=hopper.onnx"
SCORES = {"score of the last batch": "score", "greedy score": "eval_score"}
KEYS = ["run", "out", "checkpoint"]
HELP = f"""\
Writes the policy of a run to a file that needs neither this program nor a simulator: observations in, actions out, in
the environment's own units. A description with the same name that ends in .json lies beside it.

  trpo-export run=DIRECTORY out=FILE

Keys
  run=             run directory, finished or not
  out=             the file; its ending chooses the format:
                     .onnx   for onnxruntime and others; needs: pip install 'trpo_cli[onnx]'
                     .pt2    for torch.export.load
                     .npz    NumPy arrays, for any program
  checkpoint=last  of the run: last, or best, the one of the best evaluation (eval.every)

Example
  {EXAMPLE}"""


def parse(words: list[str]) -> tuple[Path, Path, str]:
    """Run directory, file and checkpoint in ``key=value`` words; ConfigError if one cannot be read or is missing."""
    given = {"checkpoint": "last"}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise ConfigError(f"{word} is not key=value; for example: {EXAMPLE}")
        if key not in KEYS:
            raise ConfigError(f"{unknown_key(key, KEYS)}; for example: {EXAMPLE}")
        given[key] = value
    for key in KEYS:
        if not given.get(key):
            raise ConfigError(f"{key}= is missing; for example: {EXAMPLE}")
    return Path(given["run"]), Path(given["out"]), given["checkpoint"]


def main(words: list[str]) -> None:
    """Export, and print one line."""
    from trpo_cli.runs.export import export

    run, out, checkpoint = parse(words)
    try:
        description = export(run, out, checkpoint)
    except OSError as error:
        raise RunError(f"cannot write to {out}: {error.strerror or error}") from error
    about = description.about
    scores = [f"{name} {about[key]:.4g}" for name, key in SCORES.items() if about[key] is not None]
    told = ", ".join([f"the policy after {about['iterations']} iterations", *scores])
    print(f"{out} and {out.with_suffix('.json')} written: {told}")
