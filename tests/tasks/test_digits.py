"""Digits: the split, the encoders, the options."""

from __future__ import annotations

import numpy as np
import pytest

from neurocompile.ir.errors import InputError
from neurocompile.tasks.data import COMMON_OPTIONS, Purpose, event_counts, load_data, stream
from neurocompile.tasks.digits import OPTIONS, encode_latency, encode_rate, split


def test_split_is_disjoint_complete_stratified_and_follows_the_seed() -> None:
    labels = np.repeat(np.arange(10), 50)
    train, test = split(labels, 0.2, 1)
    assert np.array_equal(np.sort(np.concatenate([train, test])), np.arange(500))
    assert np.array_equal(np.bincount(labels[test]), np.full(10, 10))
    assert np.array_equal(split(labels, 0.2, 1)[1], test)
    assert not np.array_equal(split(labels, 0.2, 2)[1], test)


def test_digits_hold_all_1797_samples_and_no_held_out_one_in_training(tiny) -> None:
    data = load_data(tiny())
    assert len(data.train.labels) + len(data.test.labels) == 1797
    assert abs(len(data.test.labels) - 0.2 * 1797) <= 5  # rounded in each of the ten classes
    assert not set(data.train.ids) & set(data.test.ids)


def test_rate_encoder_has_the_rate_of_its_pixels() -> None:
    image = np.array([0.0, 0.25, 1.0])
    neuron, step = encode_rate(image, 40_000, 0.1, np.random.default_rng(1))
    found = np.bincount(neuron, minlength=3) / 40_000
    # binomial: five standard deviations
    assert np.all(np.abs(found - image * 0.1) <= 5 * np.sqrt(image * 0.1 * (1 - image * 0.1) / 40_000))
    assert np.all(np.diff(step) >= 0)
    assert len(np.unique(step * 3 + neuron)) == len(neuron)


def test_latency_encoder_sends_one_spike_a_lit_pixel_the_brighter_the_earlier() -> None:
    neuron, step = encode_latency(np.array([0.0, 1.0, 0.5, 0.0625]), 101, 1.0)
    assert neuron.tolist() == [1, 2, 3]
    assert step.tolist() == [0, 50, 94]  # (1 - x) 100, rounded


def test_a_sample_is_a_function_of_seed_epoch_and_index_alone(tiny) -> None:
    data, again = load_data(tiny()), load_data(tiny())
    later = again.train.sample(7, 2)
    assert not np.array_equal(data.train.sample(7, 1).step, later.step)
    assert np.array_equal(data.train.sample(7, 2).step, later.step)
    assert np.array_equal(data.train.sample(7, 2).neuron, later.neuron)
    assert np.array_equal(data.test.sample(3, 0).step, data.test.sample(3, 5).step), "held-out samples are the same in every epoch"
    frozen = load_data(tiny(options={"redraw": False}))
    assert np.array_equal(frozen.train.sample(7, 1).step, frozen.train.sample(7, 2).step)


def test_streams_differ() -> None:
    words = [(p, e, i) for p in Purpose for e in range(3) for i in range(3)]
    assert len({stream(1, p, e, i).integers(2**62) for p, e, i in words}) == len(words)


def test_event_counts(tiny) -> None:
    data = load_data(tiny())
    counts = event_counts(data.train, [0, 1], 64)
    assert counts.shape == (2, 64)
    assert counts[1].sum() == len(data.train.sample(1).step)


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        ({"encodr": "rate"}, "NC241", "did you mean 'encoder'"),
        ({"encoder": "phase"}, "NC242", "rate, latency"),
        ({"test_fraction": 0.0}, "NC242", "[0.01, 0.9]"),
        ({"test_fraction": True}, "NC242", "number"),
        ({"max_rate": float("nan")}, "NC242", "max_rate"),
        ({"redraw": 1}, "NC242", "true or false"),
        ({"target_scale": 0}, "NC242", "(0, 1e+09]"),
    ],
)
def test_wrong_options_say_what_and_where(tiny, options, code: str, text: str) -> None:
    with pytest.raises(InputError) as caught:
        load_data(tiny(options=options))
    assert caught.value.diagnostics[0].code == code
    assert text in str(caught.value)


def test_all_wrong_options_are_reported_at_once(tiny) -> None:
    with pytest.raises(InputError) as caught:
        load_data(tiny(options={"encodr": 1, "test_fraction": 2.0}))
    assert [d.code for d in caught.value.diagnostics] == ["NC241", "NC242"]


def test_every_default_passes_its_own_check() -> None:
    for name, option in {**OPTIONS, **COMMON_OPTIONS}.items():
        assert option.check(name, option.default) is None


@pytest.mark.parametrize(
    ("make", "code"),
    [
        ({"kind": "digit"}, "NC240"),
        ({"n_in": 63}, "NC245"),
        ({"n_out": 11}, "NC245"),
        ({"data": None}, "NC243"),
        ({"kind": "nmnist", "n_in": 2312}, "NC246"),
    ],
)
def test_a_network_that_does_not_fit_the_data(tiny, make, code: str) -> None:
    with pytest.raises(InputError) as caught:
        load_data(tiny(**make))
    assert caught.value.diagnostics[0].code == code
