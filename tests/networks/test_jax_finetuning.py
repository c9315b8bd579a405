"""Fine-tuning of reduced Flax networks: the page runs, and one epoch of its recipe repairs LAST at 50 %."""

import doctest
from pathlib import Path

import numpy as np
import pytest
from support.digits import digits

import ssmreduce as sr

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "networks_jax.rst"


def test_the_page_runs():
    for package in ("flax", "equinox", "optax"):
        pytest.importorskip(package)
    found = doctest.testfile(str(PAGE), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.attempted > 30
    assert found.failed == 0


@pytest.mark.slow
def test_one_epoch_repairs_last():
    jax, optax = pytest.importorskip("jax"), pytest.importorskip("optax")
    pytest.importorskip("flax")
    import jax.numpy as jnp
    from support.flax_s5 import classifier, variables_of

    x, y, x_test, y_test = digits()
    model = sr.load("examples/s5_digits/model.safetensors")
    net = sr.network(classifier(), variables=variables_of(model.params), adapter=model.adapter)
    small = sr.prune(net.model, sr.select(sr.score(net.model, "last"), ratio=0.5))
    assert (net.outputs(small, x_test).argmax(1) == y_test).mean() < 0.7
    live, batch = net.rebuild(small), 16
    steps = len(x) // batch

    def rate(peak):
        return optax.warmup_cosine_decay_schedule(0.0, peak, warmup_steps=3, decay_steps=steps)

    def group(path, _):
        return "ssm" if path[-1].key in ("log_rate", "angle", "B") else "rest"

    groups = {"ssm": optax.adam(rate(2e-3)), "rest": optax.adamw(rate(2e-3), weight_decay=0.01)}
    optimiser = optax.multi_transform(groups, lambda params: jax.tree_util.tree_map_with_path(group, params))
    params = live.variables["params"]
    state = optimiser.init(params)

    @jax.jit
    def step(params, state, x, y):
        def loss(params):
            logits = live.apply({**live.variables, "params": params}, x)
            return -jnp.mean(jnp.take_along_axis(logits, y[:, None], axis=1))

        updates, state = optimiser.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    order = np.random.default_rng(0).permutation(len(x))[: steps * batch].reshape(steps, batch)
    for index in order:
        params, state = step(params, state, x[index], y[index])
    tuned = live.with_variables({**live.variables, "params": params})
    assert (jax.jit(tuned.apply)(tuned.variables, x_test).argmax(1) == y_test).mean() > 0.9
