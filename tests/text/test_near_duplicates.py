"""MinHash: its estimate compared with the Jaccard similarity, and which texts are dropped."""

import random

import numpy as np
import pytest
from tiny_models import WORDS, sentence

from inpars.text.minhash import NearDuplicateClusters, NearDuplicates, clusters, sketch_document
from inpars.text.words import words


def shingles(text):
    found = words(text)
    return {found[n : n + 3] for n in range(len(found) - 2)}


def test_the_share_of_equal_minima_estimates_the_similarity():
    # 64 hashes: standard deviation at most sqrt(.25 / 64) = .0625 each; over 60 pairs the mean error is far less
    errors = []
    for seed in range(60):
        chooser = random.Random(seed)
        one = [chooser.choice(WORDS) for _ in range(80)]
        other = [word if chooser.random() > seed / 400 else "else" for word in one]
        mine, theirs = shingles(" ".join(one)), shingles(" ".join(other))
        estimate = (sketch_document(one) == sketch_document(other)).mean()
        errors.append(estimate - len(mine & theirs) / len(mine | theirs))
    assert abs(sum(errors) / len(errors)) < 0.03
    assert max(map(abs, errors)) < 5 * 0.0625


def test_case_and_signs_make_no_difference_but_the_order_of_words_does():
    seen = NearDuplicates()
    assert seen.add("Amber river, silver lake.")
    assert not seen.add("amber RIVER silver lake")
    assert seen.add("lake silver river amber")


@pytest.mark.parametrize(("changed", "new"), [(1, False), (10, True), (50, True)])
def test_one_changed_word_of_a_hundred_is_a_near_duplicate_ten_are_not(changed, new):
    # each changed word changes three of 98 triples: similarities 95/101, about 68/128, and 0
    text = sentence(3, 100).split()
    other = [word if n % (100 // changed) else f"new{n}" for n, word in enumerate(text)]
    seen = NearDuplicates()
    assert seen.add(" ".join(text))
    assert seen.add(" ".join(other)) is new


def test_short_texts_and_texts_without_words():
    seen = NearDuplicates()
    assert [seen.add(text) for text in ("one", "One.", "two words", "two words", "...", "...")] == [
        *(True, False, True, False, True, True)
    ]


def labels_of(texts, **settings):
    found = NearDuplicateClusters(**settings)
    for text in texts:
        found.add(text)
    return found.labels().tolist()


LONG = sentence(3, 100).split()
VARIANTS = [" ".join([*LONG[:at], "other", *LONG[at + 1 :]]) for at in (20, 50)]  # each like LONG, and like each other


def test_clusters_by_hand():
    texts = ["", " ".join(LONG), "one", "lake silver", VARIANTS[0], "ONE.", "", VARIANTS[1], sentence(9, 100), "..."]
    # texts without words resemble nothing, not even each other
    assert labels_of(texts) == [0, 1, 2, 3, 1, 2, 6, 1, 8, 9]
    assert labels_of([]) == []


def test_links_chain():
    # each step changes 4 of 100 words far apart, 12 of 98 triples: similarity 86/110 = .78 for neighbours at most;
    # so take a lower threshold, under which the ends of the chain (36 triples changed, 62/134 = .46) are apart
    chain, words_ = [" ".join(LONG)], list(LONG)
    for step in range(3):
        for place in (5, 30, 55, 80):
            words_[place + 6 * step] = f"new{step}"
        chain.append(" ".join(words_))
    assert labels_of(chain, threshold=0.6) == [0, 0, 0, 0]
    assert labels_of([chain[0], chain[3]], threshold=0.6) == [0, 1]


def test_the_order_of_texts_makes_no_difference():
    chooser = random.Random(5)
    texts = [sentence(seed, 40) for seed in range(30)]
    texts += [" ".join([*text.split()[:-1], "end"]) for text in texts[:10]] + texts[5:15]
    sets = set()
    for _ in range(5):
        chooser.shuffle(texts)
        labels = labels_of(texts)
        groups = {}
        for text, label in zip(texts, labels, strict=True):
            groups.setdefault(label, []).append(text)
        sets.add(frozenset(tuple(sorted(group)) for group in groups.values()))
    assert len(sets) == 1
    assert sorted(map(len, sets.pop())) == [1] * 15 + [2] * 10 + [3] * 5


def test_a_bucket_of_unlike_texts_is_not_one_cluster():
    # the first band equal for all, the rest not: a shared band proposes a pair, the estimate decides
    minima = np.random.default_rng(0).integers(0, 2**16, (300, 64), dtype=np.uint16)
    minima[:, :4] = 7
    minima[200] = minima[100]
    minima[201, :60] = minima[101, :60]
    labels = clusters(minima, 0.8)
    assert len(np.unique(labels)) == 298
    assert (labels[200], labels[201]) == (100, 101)


def test_repeats_are_what_is_not_added_one_after_the_other():
    texts = [sentence(seed, 40) for seed in range(12)]
    texts += [" ".join([*text.split()[:-1], "end"]) for text in texts[:5]] + [texts[7], "", ""]
    alone, together = NearDuplicates(), NearDuplicateClusters()
    one_by_one = [not alone.add(text) for text in texts]
    for text in texts:
        together.add(text)
    assert together.repeats().tolist() == one_by_one
    assert sum(one_by_one) == 6
    assert NearDuplicateClusters().repeats().tolist() == []
