"""The canonical form."""

import json

import msgspec
import pytest

from taskengine.clock import Micros
from taskengine.model.definition import (
    PARAM_TYPES,
    OnFailure,
    ParamSpec,
    Retention,
    RetryPolicy,
    TaskSpec,
    Trigger,
    WorkflowDefinition,
    canonical_form,
    decode_canonical,
    retention_of,
    version_of,
)
from taskengine.model.ids import WorkflowId

FULL = WorkflowDefinition(
    id="w",
    name="名",
    labels={"b": "2", "a": "1"},
    params={"x": ParamSpec(default=None), "y": ParamSpec(type="integer", required=True, enum=(1, 2), minimum=1.5)},
    tasks=(
        TaskSpec(name="a", job="noop", params={"z": [1, 2.5, None, True, "é"], "a": {}}, retry=RetryPolicy(on=("E",))),
        TaskSpec(name="b", job="noop", depends_on=("a",), trigger=Trigger.ALL_DONE, timeout_us=5),
    ),
    on_failure=OnFailure.CANCEL,
)


def test_defaults_are_left_out() -> None:
    assert canonical_form(WorkflowDefinition(id="w")) == b'{"id":"w"}'
    task = WorkflowDefinition(id="w", tasks=(TaskSpec(name="a", job="b", retry=RetryPolicy()),))
    assert canonical_form(task) == b'{"id":"w","tasks":[{"job":"b","name":"a","retry":{}}]}'


def test_keys_are_sorted_at_every_level_and_text_is_utf_8() -> None:
    text = canonical_form(FULL).decode()
    assert json.dumps(json.loads(text), sort_keys=True, ensure_ascii=False, separators=(",", ":")) == text
    assert "名" in text


def test_it_reads_back_to_the_same_definition_and_bytes() -> None:
    assert decode_canonical(canonical_form(FULL)) == FULL
    assert canonical_form(decode_canonical(canonical_form(FULL))) == canonical_form(FULL)


def test_for_ever_is_not_the_same_as_not_said() -> None:
    kept = WorkflowDefinition(id=WorkflowId("w"), retention=Retention(success_us=None, failed_us=Micros(5)))
    assert canonical_form(kept) == b'{"id":"w","retention":{"failed_us":5,"success_us":null}}'
    for definition in (kept, FULL, WorkflowDefinition(id=WorkflowId("w"), retention=Retention(failed_us=None))):
        assert decode_canonical(canonical_form(definition)) == definition
        assert retention_of(canonical_form(definition)) == definition.retention


def test_what_a_retention_does_not_say_is_that_of_the_other() -> None:
    own, other = Retention(success_us=None), Retention(success_us=Micros(1), failed_us=Micros(2))
    assert own.over(other) == Retention(success_us=None, failed_us=Micros(2))
    assert Retention().over(other) == other == other.over(own)


def test_a_default_of_null_is_not_the_same_as_none() -> None:
    assert ParamSpec(default=None) != ParamSpec()
    read = decode_canonical(canonical_form(FULL))
    assert read.params["x"].default is None
    assert read.params["y"].default is msgspec.UNSET


def test_keys_of_a_newer_program_are_passed_over() -> None:
    assert decode_canonical(b'{"id":"w","later":{"x":1}}') == WorkflowDefinition(id="w")


def test_every_difference_makes_another_version_and_order_of_keys_none() -> None:
    one, other = {"a": 1, "b": 2}, {"b": 2, "a": 1}
    versions = {
        version_of(canonical_form(WorkflowDefinition(id="w", tasks=(TaskSpec(name="a", job="b", params=params),))))
        for params in (one, other)
    }
    assert len(versions) == 1
    assert version_of(b'{"id":"w"}') != version_of(b'{"id":"v"}')
    assert len(version_of(b"")) == 64


def test_the_title_is_the_name_or_the_id() -> None:
    assert WorkflowDefinition(id="w").title == "w"
    assert FULL.title == "名"


def test_definitions_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        FULL.id = "v"  # type: ignore[misc,assignment]


def test_any_is_the_first_type_and_the_default() -> None:
    assert ParamSpec().type == PARAM_TYPES[0] == "any"


def test_a_value_that_equals_its_default_is_the_default() -> None:
    computed = RetryPolicy(count=1, backoff=float("1.0"), interval_us=Micros(int("1000000")), jitter=float("0"))
    plain = RetryPolicy(count=1)
    forms = [
        canonical_form(
            WorkflowDefinition(
                id=WorkflowId("w"), params={"p": spec}, tasks=(TaskSpec(name="a", job="noop", retry=retry),)
            )
        )
        for spec, retry in ((ParamSpec(type="".join(["an", "y"])), computed), (ParamSpec(), plain))
    ]
    assert forms[0] == forms[1]
