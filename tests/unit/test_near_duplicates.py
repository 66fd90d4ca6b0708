"""MinHash: its estimate against the similarity itself, and what is passed over."""

import random

import pytest
from tiny_models import WORDS, sentence

from inpars.filtering import words
from inpars.near_duplicates import NearDuplicates, signature


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
        estimate = (signature(tuple(one)) == signature(tuple(other))).mean()
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
