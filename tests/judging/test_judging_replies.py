"""Where the grade and the reason stand in a reply."""

import pytest

from inpars.judging.server import find_grade, reason_in


@pytest.mark.parametrize(
    ("text", "grade", "reason"),
    [
        ("2", 2, ""),
        (" 3\n", 3, ""),
        ("**1**", 1, ""),
        ("2/3", 2, ""),
        ("0.", 0, ""),
        ("Grade: 3", 3, ""),
        ("**Final score: 1**", 1, ""),
        ("##final score: 0", 0, ""),
        ("The passage says how.\nGrade: 2", 2, "The passage says how."),
        ("2\nReason: it names the pan.", 2, "it names the pan."),
        ("Score = 2 because it defines the word.", 2, "because it defines the word"),
        ('{"grade": 1, "reason": "off topic, mostly"}', 1, "off topic, mostly"),
        ('```json\n{"M": 2, "T": 1, "O": 0}\n```', 0, ""),
        ("First I thought grade: 1.\nBut then grade: 3", 3, "First I thought grade: 1."),
        ("On a scale of 0-3, grade: 2", 2, ""),
        ("1. It names the pan.\n2. It says how.\nGrade: 3", 3, "1. It names the pan. 2. It says how."),
        ("1. It is on topic only.", 1, "It is on topic only"),
    ],
)
def test_a_grade_and_its_reason(text, grade, reason):
    found = find_grade(text)
    assert found.grade == grade
    assert text[found.start : found.end] == str(grade)
    if reason:
        assert reason_in(text) == reason


@pytest.mark.parametrize(
    "text",
    [
        *("", "relevant", "I think 3 of them fit", "10", "4", "2.5", "0 to 3", "0-3", "relevance is 2.5", "grade: 7"),
        "1. **Intent**: to clean a pan.\n2. **Passage**: it says how.\nSo it answers in part.",
    ],
)
def test_no_grade(text):
    assert find_grade(text) is None
