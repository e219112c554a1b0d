"""Secrets that are known by their value are not shown."""

import pytest

from taskengine.telemetry.masking import Mask, secret_values


def test_the_longest_value_is_replaced_first() -> None:
    mask = Mask(["token", "token-1234"])
    assert mask.apply("a token-1234 and a token") == "a *** and a ***"


def test_values_of_fewer_than_four_characters_are_words() -> None:
    assert Mask(["abc", "", " "]).apply("abc abcd") == "abc abcd"


def test_each_line_of_a_long_secret_is_one() -> None:
    assert Mask(["BEGIN\nMIIEvQ==\nEND"]).apply("key: MIIEvQ==") == "key: ***"


def test_a_value_is_found_inside_json_too() -> None:
    assert Mask(['pass"word']).apply(r'{"p":"pass\"word"}') == '{"p":"***"}'


def test_what_looks_like_a_pattern_is_taken_as_it_is() -> None:
    assert Mask(["a.*z"]).apply("abcz a.*z") == "abcz ***"


def test_nothing_known_changes_nothing() -> None:
    assert Mask().apply("任何内容") == "任何内容"


@pytest.mark.parametrize(
    ("dsn", "found"),
    [
        ("postgresql://u:p%40ss@h/db", {"p%40ss", "p@ss"}),
        ("data/engine.db", set()),
        ("sqlite:///x.db", set()),
        ("http://[", set()),
    ],
)
def test_secrets_come_from_the_environment_and_the_address(dsn: str, found: set[str]) -> None:
    environ = {"TASKENGINE_SECRET_券商": "令牌令牌", "PATH": "/bin"}
    assert set(secret_values(environ, dsn)) == {"令牌令牌"} | found
