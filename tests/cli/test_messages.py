"""What Hydra and OmegaConf object to is said in one sentence, with the nearest thing that exists."""

import re
from pathlib import Path

import pytest
from compose import CONF, composed, options
from hydra.errors import ConfigCompositionException

from trpo_cli.cli.help import page
from trpo_cli.cli.messages import NO_KEY, explain
from trpo_cli.cli.words import as_typed

SEARCH = "hydra.searchpath=[file://{}]"
CLOSE = "close its brackets and quotes, and put quotes around special characters in it"


def said(*words: str, conf: Path = CONF) -> str:
    """The sentence about a command line that does not compose."""
    with pytest.raises(Exception) as caught:
        composed(*words, conf=conf)
    return explain(caught.value, CONF, words)


@pytest.mark.parametrize("group", ["env", "policy", "sampler", "optimizer", "scale", "experiment"])
@pytest.mark.parametrize("option", ["zzz", "", "null", "3"])
def test_an_option_that_does_not_exist_is_answered_with_those_that_do(group: str, option: str):
    more = "; any other of Gymnasium: env=gymnasium env.id=…" if group == "env" and option == "zzz" else ""
    assert said(f"{group}={option}") == f"{group}={option} does not exist; choices: {', '.join(options(group))}{more}"


@pytest.mark.parametrize(
    ("word", "near"),
    [
        ("env=hoper", "env=hopper"),
        ("env=cart-pole", "env=cartpole"),
        ("optimizer=trop", "optimizer=trpo"),
        ("optimizer=maxkl", "optimizer=max_kl"),
        ("sampler=vines", "sampler=vine"),
        ("experiment=fig4/hoper", "experiment=fig4/hopper"),
        ("scale=laptops", "scale=laptop"),
        ("env=CartPole-v1", "env=gymnasium env.id=CartPole-v1"),
        ("env=Hopper-v5", "env=hopper_v5"),
        ("env=HalfCheetah-v5", "env=half_cheetah_v5"),
        ("env=Hopper-v4", "env=gymnasium env.id=Hopper-v4"),
        ("env=ALE/Pong-v5", "env=gymnasium env.id=ale_py:ALE/Pong-v5"),
    ],
)
def test_the_nearest_option_is_proposed(word: str, near: str):
    assert said(word).startswith(f"{word} does not exist; did you mean {near}? choices: ")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["iteration=3"], "iteration does not exist; did you mean iterations?"),
        (["optimizer.kl_limt=0.1"], "optimizer.kl_limt does not exist; did you mean optimizer.kl_limit?"),
        (["sampler=vine", "sampler.n_trunk=3"], "sampler.n_trunk does not exist; did you mean sampler.n_trunks?"),
        (["envs=hopper"], "envs does not exist; did you mean env?"),
        (["xyz=3"], "xyz does not exist; see trpo-train --help"),
        (["task.step_limit=3"], "task.step_limit does not exist; did you mean step_limit?"),
        (["task.gamma=3"], "task.gamma does not exist; did you mean sampler.gamma?"),
        (["kl_limit=3"], "kl_limit does not exist; did you mean optimizer.kl_limit?"),
        (["env=hopper", "env.frame_skp=3"], "env.frame_skp does not exist; did you mean env.frame_skip?"),
        (["xyz.abc=3"], "xyz.abc does not exist; see trpo-train --help"),
        (["~iteration"], "iteration does not exist; did you mean iterations?"),
        (
            ["optimizer.penalty=3"],
            "optimizer.penalty does not exist with the chosen options; it belongs to optimizer=natural_gradient",
        ),
        (
            ["sampler=vine", "sampler.n_paths=3"],
            "sampler.n_paths does not exist with the chosen options; it belongs to sampler=single",
        ),
        (
            ["optimizer=cem", "optimizer.cg_iterations=3"],
            "optimizer.cg_iterations does not exist with the chosen options; "
            "it belongs to optimizer=empirical_fim, optimizer=natural_gradient, optimizer=trpo",
        ),
        (["max_kl=1"], "max_kl does not exist; did you mean optimizer.kl_limit?"),
        (["sampler=vine", "n_envs=1"], "n_envs does not exist; did you mean workers?"),
        (["lr=1"], f"lr does not exist; {NO_KEY['lr']}"),
        (["eval_freq=1"], "eval_freq does not exist; did you mean eval.every?"),
        (["eval.evry=1"], "eval.evry does not exist; did you mean eval.every?"),
        (["n_eval_episodes=1"], "n_eval_episodes does not exist; did you mean eval.episodes?"),
        (["save_best=true"], "save_best does not exist; did you mean eval.every?"),
        (["target_score=1"], "target_score does not exist; did you mean stop_at?"),
        (["checkpoint=x"], "checkpoint does not exist; did you mean init_from?"),
        (["total_timesteps=1"], "total_timesteps does not exist; did you mean total_steps?"),
        (["n_steps=1"], "n_steps does not exist; did you mean sampler.steps_per_iteration?"),
        (["ent_coef=0"], f"ent_coef does not exist; {NO_KEY['ent_coef']}"),
        (["resume=true"], f"resume does not exist; {NO_KEY['resume']}"),
        (["learning_rate=1"], f"learning_rate does not exist; {NO_KEY['lr']}"),
        (["sub_sampling_factor=1"], "sub_sampling_factor does not exist; did you mean optimizer.fisher_fraction?"),
        (["env=hopper_v5", "lam=1"], "lam does not exist; did you mean critic.gae_lambda?"),
        (["lam=1"], "lam does not exist; it is critic.gae_lambda here, which belongs to critic=conv, critic=mlp"),
        (["env=hopper_v5", "critic.gae_lamda=1"], "critic.gae_lamda does not exist; did you mean critic.gae_lambda?"),
        (["experiment=fig4/hopper", "env.frame_skp=1"], "env.frame_skp does not exist; did you mean env.frame_skip?"),
        (
            ["optimizer={a:1}"],
            "optimizer is a group: choose one of its options, optimizer=…, or set one of the keys, optimizer.…=…",
        ),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest_or_the_option_it_belongs_to(words: list[str], sentence: str):
    assert said(*words) == sentence


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("seed=abc", "seed=abc is not a whole number"),
        ("seed=1.5", "seed=1.5 is not a whole number"),
        ("seed=", "seed= is not a whole number"),
        ("seed=null", "seed=null is not possible: a value is needed"),
        ("path_scale=half", "path_scale=half is not a number"),
        ("name=[a]", "name=['a'] is not a word"),
        ("step_limit=many", "step_limit=many is not a whole number"),
        ("+seed=1", "seed exists already; write seed=… without a +"),
        ("+env=hopper", "env has an option already; write env=… without a + to choose another"),
        ("+optimizer=trpo", "optimizer has an option already; write optimizer=… without a + to choose another"),
        ("++sampler=vine", "sampler has an option already; write sampler=… without a + to choose another"),
        ("env@here=hopper", "env@here: an option cannot be put elsewhere; write env=…"),
        ("~env", "env has no value; set env=…"),
        ("~sampler", "sampler has no value; set sampler=…"),
        ("seed", "seed is not an override; write key=value, for example env=hopper or seed=1"),
        ("seed:1", "seed:1 is not an override; write key=value, for example env=hopper or seed=1"),
        ("name=Über", "name=Über has characters that need quotes; write 'name=\"Über\"'"),
        ("name=a!b", "name=a!b has characters that need quotes; write 'name=\"a!b\"'"),
        ("name=lr=1", "name=lr=1 has characters that need quotes; write 'name=\"lr=1\"'"),
        ("name=bob's", """name=bob's has characters that need quotes; write 'name="bob'"'"'s"'"""),
        ("outputs=~/x", "outputs=~/x: your shell did not replace ~ by your home directory; write outputs=$HOME/x"),
        ("policy.hidden_sizes=(8,8)", "policy.hidden_sizes=(8,8) is not a list; write 'policy.hidden_sizes=[8,8]'"),
        *(
            (
                word,
                f"{word} cannot be read; close its brackets and quotes, and put quotes around special characters in it",
            )
            for word in ("seed='", "seed=[1", "env.kwargs={name: Über}")
        ),
        ("=1", "=1 is not an override; write key=value, for example env=hopper or seed=1"),
    ],
)
def test_a_wrong_value_or_word_is_named(word: str, sentence: str):
    assert said(word) == sentence


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("iteratons: 3", "iteratons does not exist; did you mean iterations? (in experiment/mine.yaml)"),
        ("seed: abc", "seed=abc is not a whole number (in experiment/mine.yaml)"),
        (
            "seed: [3",
            "{conf}/experiment/mine.yaml, line 3, is not valid YAML: ",
        ),
        (
            "defaults:\n  - override /env: hoper",
            "env=hoper does not exist; did you mean env=hopper? choices: " + ", ".join(options("env")),
        ),
    ],
)
def test_a_fault_in_a_file_is_said_with_the_file(text: str, sentence: str, tmp_path: Path):
    for path in CONF.rglob("*.yaml"):
        copy = tmp_path / path.relative_to(CONF)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    (tmp_path / "experiment/mine.yaml").write_text(f"# @package _global_\n{text}\n")
    assert said("experiment=mine", conf=tmp_path).startswith(sentence.format(conf=tmp_path))


def test_no_option_is_proposed_that_is_not_similar():
    assert said("optimizer=ppo") == f"optimizer=ppo does not exist; choices: {', '.join(options('optimizer'))}"


def test_what_is_not_foreseen_is_still_one_line():
    assert explain(ConfigCompositionException("first\nsecond"), CONF, []) == "first"
    assert explain(ConfigCompositionException(), CONF, []) == (
        "ConfigCompositionException while composing the configuration"
    )


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder for --config-dir with an experiment of one's own."""
    (tmp_path / "experiment").mkdir()
    text = "# @package _global_\n# My crane.\ndefaults:\n  - override /env: gymnasium\nenv:\n  id: Pendulum-v1\n"
    (tmp_path / "experiment/crane.yaml").write_text(f"{text}  kwargs:\n    g: 9.8\n")
    return tmp_path


def test_options_of_ones_own_folder_are_proposed_and_listed(own: Path):
    flags = ["--config-dir", str(own)]
    with pytest.raises(Exception) as caught:
        composed("experiment=cran")
    for words in (flags, [f"--config-dir={own}"], ["-cd", str(own)]):
        sentence = explain(caught.value, CONF, [*words, "experiment=cran"])
        assert sentence.startswith(
            "experiment=cran does not exist; did you mean experiment=crane? choices: crane, fig4/"
        )
    with pytest.raises(Exception) as caught:
        composed(SEARCH.format(own), "experiment=crane", "env.idd=3")
    assert explain(caught.value, CONF, [*flags, "experiment=crane", "env.idd=3"]).endswith("did you mean env.id?")
    assert re.search(r"^  crane +My crane$", page(CONF, [own]), re.MULTILINE)


@pytest.mark.parametrize("word", ["env.kwargs={goal: 1.0}", "env.kwargs.goal=1.0"])
def test_an_environments_arguments_are_added_to_those_of_a_file(word: str, own: Path):
    for words, before in (
        ([SEARCH.format(own), "experiment=crane"], {"g": 9.8}),
        (["env=gymnasium", "env.id=Pendulum-v1"], {}),
    ):
        cfg, _ = composed(*words, as_typed(word))
        assert cfg.env.kwargs == before | {"goal": 1.0}
    assert as_typed(as_typed(word)) == as_typed(word)
    assert said(*[as_typed(word.replace("1.0", "Ü{"))]).startswith(word.replace("1.0", "Ü{"))
