from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lrlab.data import order
from lrlab.data.randomness import Purpose, random_words, stratified_split

SEEDS = st.integers(0, 2**32 - 1)
EPOCHS = st.integers(1, 1000)


@given(SEEDS, EPOCHS, st.integers(0, 200))
def test_an_order_visits_every_example_once(seed: int, epoch: int, num_examples: int) -> None:
    visited = order(seed, epoch, num_examples)
    assert visited.dtype == torch.int64
    assert sorted(visited.tolist()) == list(range(num_examples))


def test_an_order_is_the_same_whenever_it_is_asked_for() -> None:
    first = order(3, 2, 100)
    torch.rand(5)
    np.random.default_rng().random(5)
    assert torch.equal(order(3, 2, 100), first)


def test_orders_differ_between_epochs_and_seeds() -> None:
    orders = {tuple(order(seed, epoch, 20).tolist()) for seed in range(10) for epoch in range(1, 11)}
    assert len(orders) == 100


def test_the_order_is_the_one_that_earlier_versions_had() -> None:
    # Written down once: results on record were made with it, on any machine and any NumPy.
    assert order(0, 1, 10).tolist() == [2, 1, 4, 7, 6, 0, 8, 9, 3, 5]
    assert order(7, 3, 10).tolist() == [1, 9, 6, 5, 0, 7, 2, 8, 3, 4]


def test_the_streams_are_the_ones_that_earlier_versions_had() -> None:
    first = {int(purpose): int(random_words(1, seed=7, epoch=3, purpose=purpose)[0]) for purpose in Purpose}
    assert {number: first[number] for number in range(1, 6)} == {
        1: 9821437555778367441,
        2: 14972467682419860153,
        3: 12758134343518170709,
        4: 2430758068893179685,
        5: 905764169345864421,
    }


def test_the_order_leaves_global_random_states_alone() -> None:
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()
    order(1, 1, 50)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state[1])


def test_orders_are_uniform() -> None:
    # 2,400 orders of 4: each of 24 expected 100 times, chi-square with 23 degrees, 99.99th percentile 57.
    counts: dict[tuple[int, ...], int] = {}
    for epoch in range(1, 2401):
        seen = tuple(order(5, epoch, 4).tolist())
        counts[seen] = counts.get(seen, 0) + 1
    assert len(counts) == 24
    assert sum((count - 100) ** 2 / 100 for count in counts.values()) < 57


@given(SEEDS, EPOCHS, st.sampled_from(Purpose), st.integers(0, 30), st.integers(0, 30))
def test_a_word_does_not_depend_on_how_many_are_drawn(
    seed: int, epoch: int, purpose: Purpose, few: int, more: int
) -> None:
    short = random_words(few, seed=seed, epoch=epoch, purpose=purpose)
    long = random_words(few + more, seed=seed, epoch=epoch, purpose=purpose)
    assert np.array_equal(short, long[:few])


def test_no_two_streams_are_the_same() -> None:
    triples = [(s, e, p) for s in (0, 1, 2, 5, 2**32 - 1) for e in (0, 1, 2, 5, 2**32 - 1) for p in Purpose]
    first = {random_words(1, seed=s, epoch=e, purpose=p)[0] for s, e, p in triples}
    assert len(first) == len(triples)


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(ValueError, match=re.escape(f"seed must be in [0, 2**32), got {seed}.")):
        order(seed, 1, 10)


def test_an_epoch_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"epoch must be in .* got -1"):
        order(0, -1, 10)


@given(st.lists(st.integers(2, 40), min_size=1, max_size=6), st.floats(0.01, 0.99))
def test_a_split_takes_the_same_share_of_each_class_and_loses_nothing(sizes: list[int], fraction: float) -> None:
    labels = torch.tensor([label for label, size in enumerate(sizes) for _ in range(size)])
    labels = labels[order(1, 1, len(labels))]
    train, test = stratified_split(labels, test_fraction=fraction)
    assert sorted(train.tolist() + test.tolist()) == list(range(len(labels)))
    assert train.tolist() == sorted(train.tolist())
    assert test.tolist() == sorted(test.tolist())
    for label, size in enumerate(sizes):
        num_test = int((labels[test] == label).sum())
        assert 1 <= num_test <= size - 1
        assert abs(num_test - fraction * size) <= 1


def test_a_new_image_in_one_class_leaves_the_test_images_of_the_others() -> None:
    labels = torch.tensor([0] * 10 + [1] * 10)
    test_before = stratified_split(labels, test_fraction=0.3)[1]
    test_after = stratified_split(torch.cat([labels, torch.tensor([1])]), test_fraction=0.3)[1]
    assert test_before[test_before < 10].tolist() == test_after[test_after < 10].tolist()


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.2, 20.0, float("nan")])
def test_a_fraction_that_is_none_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match=r"between 0 and 1.*--set data.test_fraction=0.2"):
        stratified_split(torch.tensor([0, 0, 1, 1]), test_fraction=fraction)


def test_a_class_of_one_cannot_be_split() -> None:
    with pytest.raises(ValueError, match="label 1 has only one example"):
        stratified_split(torch.tensor([0, 0, 1]), test_fraction=0.5)
