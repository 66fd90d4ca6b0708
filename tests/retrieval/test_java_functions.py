"""Functions composed in Java: their results, with one or more threads."""

import importlib.util
from contextlib import closing

import pytest

from inpars.retrieval.java import (
    Pool,
    call,
    find_jar,
    find_java,
    java_class,
    mapped_in_parallel,
    method,
    pipe,
    static_method,
    with_arguments,
)

pytestmark = pytest.mark.skipif(
    not (find_java() and find_jar() and importlib.util.find_spec("jnius")), reason="missing: Java 21, pyserini, pyjnius"
)


def listed(*values):
    made = java_class("java.util.ArrayList")()
    for value in values:
        made.add(value)
    return made


def repeated_in_upper_case(times):
    upper = method("java.lang.String", "toUpperCase", "()Ljava/lang/String;")
    repeat = method("java.lang.String", "repeat", "(I)Ljava/lang/String;")
    return pipe(upper, with_arguments(repeat, 1, java_class("java.lang.Integer")(times)))


def test_a_pipe_applies_one_after_the_other():
    assert call(repeated_in_upper_case(2), ["größe"]) == "GRÖSSEGRÖSSE"
    assert call(static_method("java.lang.String", "valueOf", "(I)Ljava/lang/String;"), [7]) == "7"


@pytest.mark.parametrize("threads", [1, 4])
def test_a_batch_keeps_its_order(threads):
    texts = [f"word{number} 😺" for number in range(1000)]
    with closing(Pool(threads)) as pool:
        tasks = [pool.submit(mapped_in_parallel(repeated_in_upper_case(1)).bindTo(listed(*texts))) for _ in range(3)]
        assert [task.join() for task in tasks] == [[text.upper() for text in texts]] * 3


def test_what_java_throws_comes_through():
    with closing(Pool(1)) as pool:
        task = pool.submit(mapped_in_parallel(repeated_in_upper_case(-1)).bindTo(listed("word")))
        with pytest.raises(Exception, match="count is negative"):
            task.join()
