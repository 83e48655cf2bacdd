"""What a config says of the losses is what the step is built of."""

import functools
import inspect
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from vmr.losses.learnable import LEARNABLE
from vmr.runs import restore
from vmr.training import build, loop
from vmr.training.base_config import loss_options
from vmr.training.state import placeholder_standardization
from vmr.training.trained import best_state


@pytest.mark.parametrize("name", [*build.INTER, *build.INTRA])
def test_the_defaults_of_a_loss_are_those_of_the_configs(name: str) -> None:
    function = {**build.INTER, **build.INTRA}[name]
    data = ("own", "means", "teacher")  # what the objective tells a loss, not the config
    defaults = {
        option: parameter.default
        for option, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and option not in data
    }
    options = dict(loss_options().get(name, {}))
    assert ("learnt" in options) == (name in LEARNABLE)
    options.pop("learnt", None)
    assert options == defaults


def test_options_reach_the_losses(config: ml_collections.ConfigDict) -> None:
    config.loss.update({"inter": "crossclr", "intra": "ii_kl", "block_rows": 7})
    config.loss.crossclr.negative_weight = 0.5
    config.loss.ii_kl.temperature = 0.3
    objective = build.build_objective(config)
    assert isinstance(objective.inter, functools.partial)
    assert isinstance(objective.intra, functools.partial)
    assert objective.inter.keywords["negative_weight"] == 0.5
    assert objective.intra.keywords == {"temperature": 0.3}
    assert objective.block_rows == 7
    config.loss.update({"inter": "infonce", "intra": "none", "similarity_dtype": "bfloat16"})
    objective = build.build_objective(config)
    assert objective.intra is None
    assert objective.similarity_dtype == jnp.bfloat16


def test_fields_reach_the_step(
    config: ml_collections.ConfigDict, workdir: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}
    step = build.train_step

    def noted(*arguments: Any, **options: Any) -> Any:
        given.update(options)
        return step(*arguments, **options)

    monkeypatch.setattr(build, "train_step", noted)
    config.update({"steps": 1, "microbatch": 16})
    config.loss.warmup_steps = 9
    config.optimizer.average_decay = 0.5
    loop.train(config, workdir, jax.devices()[:2])
    assert given["microbatch"] == 8
    assert given["warmup_steps"] == 9
    assert given["average_decay"] == 0.5
    assert given["objective"].inter.keywords == {"margin": 0.1, "top_k": 8}


def test_the_learning_rate_warms_up_under_either_schedule(
    config: ml_collections.ConfigDict,
) -> None:
    """Of Adam's first steps along one gradient, each is as long as its learning rate."""
    lengths = {}
    for schedule, warmup in (("constant", 0), ("constant", 4), ("cosine", 4)):
        config.optimizer.update({"schedule": schedule, "warmup_steps": warmup, "epsilon": 1e-30})
        optimizer = build.build_optimizer(config)
        params = {"bias": jnp.zeros(())}
        state, found = optimizer.init(params), []
        for _ in range(8):
            updates, state = optimizer.update({"bias": jnp.ones(())}, state, params)
            found.append(-float(updates["bias"]) / config.optimizer.learning_rate)
        lengths[schedule, warmup] = found
    np.testing.assert_allclose(lengths["constant", 0], np.ones(8), rtol=1e-4)
    rising = [0.0, 0.25, 0.5, 0.75, 1.0]
    np.testing.assert_allclose(lengths["constant", 4], [*rising, 1.0, 1.0, 1.0], rtol=1e-4)
    np.testing.assert_allclose(lengths["cosine", 4][:5], rising, rtol=1e-4)


def test_learnt_options_start_from_their_values_and_do_not_decay(
    config: ml_collections.ConfigDict,
) -> None:
    config.loss.inter = "siglip"
    config.optimizer.weight_decay = 0.5
    state = build.build_state(config, placeholder_standardization({"video": 5, "music": 4}))
    np.testing.assert_allclose(np.exp(state.params["loss"]["log_scale"]), 10.0, rtol=1e-6)
    assert state.params["loss"]["bias"] == -10.0
    optimizer = build.build_optimizer(config)
    nothing = jax.tree.map(jnp.zeros_like, state.params)
    updates, _ = optimizer.update(nothing, state.opt_state, state.params)
    assert not any(np.any(update) for update in updates["loss"].values())
    assert np.any(updates["video_encoder"]["Dense_0"]["kernel"])


def test_a_run_with_learnt_options_is_restored_and_embeds(
    config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> None:
    config.loss.inter = "siglip"
    config.optimizer.average_decay = 0.9
    config.optimizer.clip_norm = 1.0
    loop.train(config, workdir, jax.devices()[:1])
    run = restore.restore_run(workdir)
    _, state = best_state(workdir, run.config)
    assert state.params["loss"]["bias"] != -10.0
    embedded = next(iter(run.embed("validation")))
    np.testing.assert_allclose(np.linalg.norm(embedded["video_emb"], axis=1), 1.0, rtol=1e-5)


def test_a_state_gives_no_buffer_away_twice(config: ml_collections.ConfigDict) -> None:
    """A step on an accelerator donates its state."""
    config.optimizer.average_decay = 0.9
    state = build.build_state(config, placeholder_standardization({"video": 8, "music": 4}))
    buffers = [leaf.unsafe_buffer_pointer() for leaf in jax.tree.leaves(state) if leaf.size]
    assert len(set(buffers)) == len(buffers)
