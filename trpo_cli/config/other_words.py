"""Words of other programs for settings that have another name here."""

# The key here, and what other programs call it. A word may stand in several lines: all keys that can be set are told.
SAME = {
    "optimizer.kl_limit": "max_kl target_kl delta kl_target desired_kl",
    "optimizer.cg_iterations": "cg_iters cg_steps cg_max_steps max_cg_iters",
    "optimizer.max_backtracks": "backtrack_iters max_backtracks line_search_max_iter",
    "total_steps": "total_timesteps n_timesteps num_timesteps max_timesteps timesteps total_env_steps",
    "iterations": "epochs n_epochs num_epochs n_iterations num_iterations n_iter n_itr n_updates",
    "sampler.steps_per_iteration": "n_steps num_steps batch_size steps_per_epoch steps_per_batch timesteps_per_batch",
    "sampler.n_paths": "n_episodes num_episodes episodes_per_batch episodes",
    "workers": "num_envs n_envs num_workers n_workers n_jobs cpus num_cpu n_cpu",
    "sampler.streams": "num_envs n_envs",
    "sampler.gamma": "discount discount_factor",
    "critic.gae_lambda": "lam lambda gae_lam",
    "critic.steps": "vf_iters n_critic_updates train_v_iters",
    "sampler.standardise": "normalize_advantage normalize_advantages standardize",
    "policy.hidden_sizes": "net_arch hidden_layers hidden_units hidden_dim hid",
    "policy.nonlinearity": "activation activation_fn",
    "policy.initial_std": "log_std_init init_std std",
    "policy.input_scale": "normalize_obs norm_obs normalize obs_norm",
    "step_limit": "max_episode_steps max_episode_length max_ep_len max_path_length time_limit horizon max_steps",
    "name": "exp_name run_name experiment_name",
    "outputs": "log_dir logdir save_dir output_dir out_dir",
    "checkpoint_every": "save_freq save_every checkpoint_freq",
    "stop_at": "target_score target_return reward_threshold score_threshold early_stop early_stopping stop_at_score",
    "init_from": "checkpoint load load_from load_model warm_start pretrained start_from restore",
    "eval.every": "eval_freq eval_every eval_interval evaluate_every save_best keep_best best_model_save_path",
    "eval.episodes": "eval_episodes n_eval_episodes num_eval_episodes eval_n_episodes",
    "device": "cuda use_cuda gpu",
    "env.id": "env_id env_name gym_id",
    "env.kwargs": "env_kwargs",
    "optimizer.fisher_fraction": "sub_sampling_factor subsampling_factor",
    # trpo-eval
    "episodes": "n_episodes num_episodes n_eval_episodes",
    "greedy": "deterministic",
    "video": "render record record_video film",
    "run": "load path",
}


def names_here(word: str) -> list[str]:
    """The keys here for the last part of a word of another program, such as ``lr`` or ``optimizer.max_kl``."""
    last = word.rpartition(".")[2].lower()
    return [key for key, words in SAME.items() if last in words.split()]
