"""Copies of a model in one file, gaps in the numbering of its layers, parameters that overflow."""

import warnings

import numpy as np
import pytest
from support.families import CASES

import ssmreduce as sr
from ssmreduce.adapters import S5
from ssmreduce.errors import AdapterError, CheckpointWarning, NonFiniteError, UnknownNameError

S5_FLAGS = S5(conj_sym=True, discretization="zoh")


def layers(rng, prefix, numbers=(0, 1), name="lru"):
    return {
        key: value
        for number in numbers
        for key, value in CASES[name].params(rng, prefix=f"{prefix}layers.{number}.seq.").items()
    }


@pytest.mark.parametrize(
    ("first", "second", "roots"),
    [
        ("", "ema.", ("", "ema")),
        ("model.", "model_ema.module.", ("", "model_ema")),
        ("state_dict/model.", "ema_state_dict/model.", ("", "ema_state_dict")),
        ("module.", "swa_model.module.", ("", "swa_model")),
        ("params/", "target_params/", ("", "target_params")),
        ("teacher.", "student.", ("", "teacher")),
        ("ema_1.", "ema_2.", ("ema_1", "ema_2")),
    ],
)
def test_copies_are_recognised_and_chosen_by_name(first, second, roots, rng):
    params = layers(rng, first) | layers(rng, second)
    with pytest.raises(AdapterError, match="holds 2 copies of one model") as error:
        sr.read(params)
    for root in roots:
        assert f"root={root!r}" in str(error.value)
    chosen = [sr.read(params, root=root).layers for root in roots]
    assert sorted(len(names) for names in chosen) == [2, 2]
    assert not set(chosen[0]) & set(chosen[1])
    for root, names in zip(roots, chosen, strict=True):
        assert all(name.startswith(root) for name in names)


def test_any_root_can_be_named(rng):
    params = layers(rng, "encoder.") | layers(rng, "decoder.") | layers(rng, "decoder_2.")
    assert len(sr.read(params)) == 6
    assert sr.read(params, root="decoder").layers == ("decoder.layers.0.seq", "decoder.layers.1.seq")
    assert sr.read(params, root="decoder.layers.1.seq").layers == ("decoder.layers.1.seq",)
    with pytest.raises(UnknownNameError, match="no layer below the root 'dec'; the layers are"):
        sr.read(params, root="dec")


def test_what_only_looks_like_a_copy(rng):
    assert len(sr.read(layers(rng, "ema."))) == 2  # nothing beside it
    assert len(sr.read(layers(rng, "a.") | layers(rng, "ema.", (0, 1, 2)))) == 5  # more layers
    small = sr.prune(sr.read(layers(rng, "ema.")), {f"ema.layers.{i}.seq": [0, 1] for i in range(2)})
    assert len(sr.read(layers(rng, "a.") | sr.export(small))) == 4  # other sizes


def test_an_incomplete_copy_beside_the_one_that_is_read(rng):
    params = layers(rng, "model.") | layers(rng, "ema.")
    del params["ema.layers.1.seq.nu_log"]
    assert len(sr.read(params, root="model")) == 2


@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
def test_the_other_copy_stays_and_the_root_is_remembered(suffix, rng, tmp_path):
    params = layers(rng, "model.") | layers(rng, "ema.")
    model = sr.read(params, root="ema")
    small = sr.prune(model, {name: [0, 2] for name in model})
    sr.save(small, tmp_path / f"x{suffix}")
    again = sr.load(tmp_path / f"x{suffix}", root=None if suffix == ".safetensors" else "ema")
    assert again.orders == small.orders
    for key in layers(rng, "model."):
        np.testing.assert_array_equal(again.params[key], params[key], strict=True)
    assert sr.load(tmp_path / f"x{suffix}", root="model").orders == dict.fromkeys(
        ("model.layers.0.seq", "model.layers.1.seq"), 6
    )


def test_the_command_line_names_the_root(rng, tmp_path, capsys):
    from ssmreduce.cli import main
    from ssmreduce.models._checkpoints import write_file

    write_file(tmp_path / "x.npz", layers(rng, "model.") | layers(rng, "ema."), {})
    assert main(["inspect", str(tmp_path / "x.npz")]) == 1
    assert "root='ema'" in capsys.readouterr().err
    assert main(["inspect", str(tmp_path / "x.npz"), "--root", "ema"]) == 0
    assert "2 layers, 12 states" in capsys.readouterr().out


# ---------------------------------------------------------------- gaps


def test_a_gap_in_the_numbering_is_said(rng):
    with pytest.warns(CheckpointWarning, match=r"there is no 'layers\.1'; there is no 'layers\.3'"):
        assert len(sr.read(layers(rng, "", (0, 2, 4)))) == 3


def test_a_layer_with_but_a_few_of_its_tensors_is_said(rng):
    params = layers(rng, "", (0, 1, 2))
    for key in [key for key in params if ".1." in key and not key.endswith(("nu_log", "D"))]:
        del params[key]
    with pytest.warns(CheckpointWarning, match=r"of 'layers\.1\.seq' there is only D, nu_log"):
        assert len(sr.read(params)) == 2


def test_something_else_in_the_gap_is_none(rng):
    params = layers(rng, "", (0, 2)) | {"layers.1.attention.weight": np.ones((3, 3))}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(sr.read(params)) == 2
        assert len(sr.read(layers(rng, "encoder.", (3, 4, 5)))) == 3


def test_numbers_far_apart_are_no_numbering(rng):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(sr.read(layers(rng, "", (0, 10**8)))) == 2


# ---------------------------------------------------------------- overflow


@pytest.mark.parametrize(
    ("case", "leaf", "value"),
    [
        ("lru", "gamma_log", 800.0),
        ("lru", "theta_log", 1e4),
        ("s5", "log_step", 750.0),
        ("s4d", "kernel.log_dt", 710.0),
        ("s4d", "kernel.log_A_real", 1e30),
    ],
)
def test_parameters_that_overflow_are_named(case, leaf, value, rng):
    params = CASES[case].params(rng, dtype="float64", prefix="seq.")
    key = f"seq.{leaf}"
    params[key] = params[key].copy()
    params[key].flat[0] = value
    with pytest.raises(NonFiniteError) as error:
        sr.read(params, adapter=CASES[case].adapter)
    assert f"{leaf} (up to {value:.3g})" in str(error.value)


def test_gamma_log_alone_is_named(rng):
    params = CASES["lru"].params(rng, prefix="seq.")
    params["seq.gamma_log"] = np.full_like(params["seq.gamma_log"], 1000)
    with pytest.raises(NonFiniteError, match=r"the parameters of layer 'seq' overflow: gamma_log \(up to 1e\+03\)$"):
        sr.read(params)
