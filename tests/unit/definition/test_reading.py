"""What a good file means."""

from pathlib import Path

import pytest
import yaml

from taskengine.definition import read_file, read_json, read_yaml, yaml_source
from taskengine.definition.check import BUILTIN_JOBS
from taskengine.errors import InvalidDefinition
from taskengine.functions.builtin import BUILTINS
from taskengine.model.definition import (
    Executor,
    OnFailure,
    ParamSpec,
    Retention,
    RetryPolicy,
    TaskSpec,
    Trigger,
    WorkflowDefinition,
    canonical_form,
    version_of,
)


def problems_of(text: str | bytes, **options) -> list[str]:
    with pytest.raises(InvalidDefinition) as caught:
        read_yaml(text, **options)
    return [problem.message for problem in caught.value.problems]


def params_of(text: str):
    """The params of one task as they are read."""
    lines = "".join(f"      {line}\n" for line in text.splitlines())
    return read_yaml(f"id: w\ntasks:\n  - name: a\n    job: noop\n    params:\n{lines}").tasks[0].params


def test_a_full_file_is_read_to_the_last_key(full_text: str) -> None:
    assert read_yaml(full_text) == WorkflowDefinition(
        id="daily-sync",
        name="每日同步",
        description="Daily market data",
        labels={"team": "quant"},
        params={
            "trade_date": ParamSpec(type="string", required=True, pattern="^[0-9]{8}$"),
            "env": ParamSpec(type="string", default="production"),
        },
        max_concurrent_tasks=10,
        timeout_us=7_200_000_000,
        on_failure=OnFailure.CONTINUE,
        retention=Retention(success_us=7 * 86_400_000_000, failed_us=None),
        tasks=(
            TaskSpec(
                name="calendar",
                job="http_request",
                params={"url": "https://example.org/cal?d=${{ params.trade_date }}"},
                timeout_us=60_000_000,
                retry=RetryPolicy(
                    count=3,
                    interval_us=5_000_000,
                    backoff=2.0,
                    max_interval_us=60_000_000,
                    jitter=0.1,
                    on=("TimeoutError", "HTTPStatusError"),
                ),
            ),
            TaskSpec(name="等待", job="sleep", params={"duration": "5m"}, depends_on=("calendar",)),
            TaskSpec(
                name="load",
                job="my_jobs.load",
                depends_on=("calendar", "等待"),
                when="${{ tasks.calendar.result.rows | length > 0 }}",
                params={"rows": "${{ tasks.calendar.result.rows }}"},
                trigger=Trigger.NONE_FAILED,
                executor=Executor.PROCESS,
                required_params=("rows",),
                result_mapping={"count": "row_count"},
                at_most_once=True,
                idempotency_key="load-${{ params.trade_date }}",
                continue_on_failure=True,
                pool="api",
                priority=-3,
            ),
        ),
    )


@pytest.mark.parametrize(
    "text", ["id: w", "id: w\ntasks: []", "id: w\nname: w\nmode: batch\non_failure: stop\nlabels: {}"]
)
def test_an_empty_workflow_is_legal_and_defaults_leave_no_trace(text: str) -> None:
    assert canonical_form(read_yaml(text)) == b'{"id":"w"}'


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("on", "on"), ("yes", "yes"), ("No", "No"), ("off", "off"), ("y", "y"),
        ("true", True), ("False", False), ("TRUE", True), ("tRUE", "tRUE"),
        ("null", None), ("~", None), ("", None), ("nil", "nil"),
        ("012", 12), ("-012", -12), ("+7", 7), ("0o14", 12), ("0x1F", 31), ("0b11", "0b11"), ("1_000", "1_000"),
        ("1.5", 1.5), (".5", 0.5), ("5.", 5.0), ("1e3", 1000.0), ("-1.5E-2", -0.015), ("1.2.3", "1.2.3"), ("e3", "e3"),
        ("1:30", "1:30"), ("190:20:30", "190:20:30"), ("2024-01-02", "2024-01-02"),
        ("2024-01-02T03:04:05Z", "2024-01-02T03:04:05Z"),
        ("'012'", "012"), ('"true"', "true"), ("=", "="), ("12345678901234567890123", 12345678901234567890123),
    ],
)  # fmt: skip
def test_plain_scalars_follow_the_core_schema(written: str, meant: object) -> None:
    read = params_of(f"x: {written}")["x"]
    assert (read, type(read)) == (meant, type(meant))


def test_keys_that_look_like_words_of_yaml_1_1_are_text() -> None:
    assert params_of("on: 1\nyes: 2\ny: 3") == {"on": 1, "yes": 2, "y": 3}


def test_the_parser_in_python_reads_the_same(full_text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_libyaml = read_yaml(full_text)
    monkeypatch.setattr(yaml_source, "_LOADER", yaml.SafeLoader)
    assert read_yaml(full_text) == with_libyaml


def test_aliases_stand_for_their_anchors() -> None:
    assert params_of("a: &a [1, {b: c}]\nd: *a\ne: {f: *a}") == {
        "a": [1, {"b": "c"}],
        "d": [1, {"b": "c"}],
        "e": {"f": [1, {"b": "c"}]},
    }


def test_fifty_aliases_and_thirty_two_levels_are_fine() -> None:
    assert len(params_of("a: &a 1\nb: [" + ", ".join(["*a"] * 50) + "]")["b"]) == 50
    deep = params_of("a: " + "[" * 28 + "]" * 28)["a"]
    for _ in range(27):
        [deep] = deep
    assert deep == []


@pytest.mark.parametrize(("levels", "fits"), [(14, True), (15, False)])
def test_depth_counts_what_is_behind_an_alias(levels: int, fits: bool) -> None:
    text = "a: &a " + "[" * 14 + "]" * 14 + "\nb: " + "[" * levels + "*a" + "]" * levels
    if fits:
        assert params_of(text)["b"] != []
    else:
        with pytest.raises(InvalidDefinition, match="nested deeper than 32 levels"):
            params_of(text)


def test_numbers_have_at_most_a_thousand_digits() -> None:
    for read, before, behind in (
        (read_yaml, "id: w\nparams: {x: ", "}"),
        (read_json, '{"id":"w","params":{"x":', "}}"),
    ):
        assert read(f"{before}{'9' * 1000}{behind}").params["x"].default == 10**1000 - 1
        with pytest.raises(InvalidDefinition, match="more than 1,000 digits"):
            read(f"{before}{'9' * 1001}{behind}")


def test_block_texts_keep_their_lines() -> None:
    assert params_of("a: |\n  one\n  two\nb: >\n  one\n  two")["a"] == "one\ntwo\n"


@pytest.mark.parametrize("spelling", ["retry: 3", "retry: {count: 3}", "retry: {count: 3, interval: 1s, backoff: 1}"])
def test_spellings_of_a_retry_have_one_hash(spelling: str) -> None:
    read = read_yaml(f"id: w\ntasks: [{{name: a, job: noop, {spelling}}}]")
    assert read.tasks[0].retry == RetryPolicy(count=3)
    assert version_of(canonical_form(read)) == version_of(
        canonical_form(read_yaml("id: w\ntasks: [{name: a, job: noop, retry: 3}]"))
    )


def test_no_retry_is_something_else_than_none_given() -> None:
    assert read_yaml("id: w\ntasks: [{name: a, job: noop, retry: 0}]").tasks[0].retry == RetryPolicy()
    assert read_yaml("id: w\ntasks: [{name: a, job: noop}]").tasks[0].retry is None


@pytest.mark.parametrize(
    "spelling",
    ["sleep: 5m", "sleep: 300", 'sleep: "300"', "sleep: 0h5m", "job: sleep, params: {duration: 300s}",
     "job: sleep, params: {duration: 300.0}"],
)  # fmt: skip
def test_spellings_of_a_sleep_are_one_task(spelling: str) -> None:
    assert read_yaml(f"id: w\ntasks: [{{name: a, {spelling}}}]").tasks == (
        TaskSpec(name="a", job="sleep", params={"duration": "5m"}),
    )


def test_a_sleep_may_be_an_expression() -> None:
    assert read_yaml("id: w\ntasks: [{name: a, sleep: '${{ params.d }}'}]").tasks[0].params == {
        "duration": "${{ params.d }}"
    }


@pytest.mark.parametrize(
    ("written", "meant"),
    [("params.a > 1", "${{ params.a > 1 }}"), ("'${{ params.a > 1 }}'", "${{ params.a > 1 }}"), ("true", "${{ true }}"),
     ("false", "${{ false }}"), ("params.a == 'x'", "${{ params.a == 'x' }}")],
)  # fmt: skip
def test_a_condition_needs_no_braces(written: str, meant: str) -> None:
    assert read_yaml(f"id: w\ntasks: [{{name: a, job: noop, when: {written}}}]").tasks[0].when == meant


@pytest.mark.parametrize(
    ("written", "spec"),
    [
        ("5", ParamSpec(type="integer", default=5)),
        ("0.5", ParamSpec(type="number", default=0.5)),
        ("true", ParamSpec(type="boolean", default=True)),
        ("text", ParamSpec(type="string", default="text")),
        ("[1]", ParamSpec(type="array", default=[1])),
        ("null", ParamSpec(default=None)),
        ("{}", ParamSpec()),
        ("{default: {a: 1}}", ParamSpec(default={"a": 1})),
        ("{type: number, minimum: 1}", ParamSpec(type="number", minimum=1.0)),
    ],
)
def test_a_bare_value_declares_a_default_of_its_type(written: str, spec: ParamSpec) -> None:
    assert read_yaml(f"id: w\nparams: {{x: {written}}}").params == {"x": spec}


def test_names_are_kept_composed_and_found_by_either_spelling() -> None:
    read = read_yaml(
        "id: cafe\u0301\ntasks:\n- {name: cafe\u0301, job: noop}\n- {name: b, job: noop, depends_on: café}"
    )
    assert read.id == "café"
    assert read.tasks[1].depends_on == ("café",)


def test_expressions_may_mention_any_task_upstream_and_undeclared_params() -> None:
    read_yaml(
        "id: w\ntasks:\n- {name: a, job: noop}\n- {name: b, job: noop, depends_on: a}\n"
        "- {name: c, job: noop, depends_on: b, params: {x: '${{ tasks.a.result }} ${{ params.anything }}'}}"
    )


def test_a_script_may_hold_no_expression_but_its_environment_may() -> None:
    read_yaml(
        "id: w\ntasks:\n- {name: a, job: shell_command, params: {script: 'echo $X', env: {X: '${{ params.x }}'}}}\n"
        "- {name: b, job: other, params: {script: 'echo ${{ params.x }}'}}"
    )


def test_a_broken_part_is_not_blamed_twice() -> None:
    text = (
        "id: w\ntasks:\n- {name: a, job: noop, depends_on: {}, trigger: one_success, when: '${{ tasks.b.result }}'}\n"
    )
    assert problems_of(text + "- {name: b, job: noop}") == ["expected a list, got a mapping"]


def test_nothing_is_said_of_what_is_above_a_broken_dependency() -> None:
    text = """
id: w
tasks:
- {name: extract, job: noop}
- {name: clean, job: noop, depends_on: extrct}
- {name: load, job: noop, depends_on: clean, params: {x: "${{ tasks.extract.result }}"}}
"""
    assert problems_of(text) == ["there is no task `extrct`, did you mean `extract`?"]


def test_limits_are_in_bytes() -> None:
    text = "id: w\nname: 中文\n"
    assert len(text.encode()) == 19
    assert read_yaml(text, limit_bytes=19).name == "中文"
    for given in (text, text.encode()):
        assert problems_of(given, limit_bytes=18) == ["the definition is larger than 18 bytes, the limit here"]


def test_jobs_are_asked_with_in_and_iterated_for_suggestions() -> None:
    class Jobs(list):
        def __contains__(self, name: object) -> bool:
            return name == "mod:run" or super().__contains__(name)

    jobs = Jobs(["noop"])
    text = "id: w\ntasks: [{{name: a, job: {}}}]"
    read_yaml(text.format("noop"), jobs=jobs)
    read_yaml(text.format("'mod:run'"), jobs=jobs)
    assert problems_of(text.format("nop"), jobs=jobs) == ["unknown job `nop`, did you mean `noop`?"]
    read_yaml(text.format("anything"), jobs=None)


def test_a_file_is_read_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_bytes(b"\xef\xbb\xbfid: w\r\n")
    (tmp_path / "w.JSON").write_text('{"id": "\\u0077"}')
    assert read_file(tmp_path / "w.yaml") == read_file(str(tmp_path / "w.JSON")) == WorkflowDefinition(id="w")
    (tmp_path / "bad.yaml").write_text("id: w\nfoo: 1\n")
    with pytest.raises(InvalidDefinition) as caught:
        read_file(tmp_path / "bad.yaml")
    assert str(caught.value).startswith(f"{tmp_path}/bad.yaml:2:1: unknown key `foo`")
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "missing.yaml")


def test_more_problems_than_anybody_reads_are_counted() -> None:
    messages = problems_of("id: w\n" + "".join(f"k{at}: 1\n" for at in range(3000)))
    assert len(messages) == 1001
    assert messages[-1] == "and 2,000 more problems from here on"


def test_json_reads_to_the_same_hash() -> None:
    yaml_text = "id: w\ntasks: [{name: 甲, job: noop, params: {n: 1, x: [true, null, 1.5, 'é']}, retry: 2}]"
    json_text = (
        '{"id":"w","tasks":[{"name":"甲","job":"noop","params":{"n":1,"x":[true,null,1.5,"\\u00e9"]},"retry":2}]}'
    )
    assert (
        canonical_form(read_json(json_text))
        == canonical_form(read_yaml(yaml_text))
        == canonical_form(read_yaml(json_text))
    )


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("", 1, 1, "there is nothing here; a workflow has at least an `id`"),
        ("  \n ", 1, 1, "there is nothing here; a workflow has at least an `id`"),
        ("[]", 1, 1, "expected a mapping, got a list"),
        ('{"id": x}', 1, 8, "this is not valid JSON: `x` is no JSON value; text stands in double quotes"),
        ('{"id": NaN}', 1, 8, "this is not valid JSON: `NaN` is no JSON value; text stands in double quotes"),
        ('{"id": 01}', 1, 9, "this is not valid JSON: expected `,` or `}`"),
        ('{"id": -}', 1, 8, "this is not valid JSON: a minus without a number"),
        ('{"id": 1e999}', 1, 8, "this is not valid JSON: a number beyond what JSON programs can hold"),
        ('{"id": "w",\n}', 2, 1, "this is not valid JSON: expected a key in double quotes"),
        ('{"id" "w"}', 1, 7, "this is not valid JSON: expected `:` behind a key"),
        ('{"中文": "w"\n "b": 1}', 2, 2, "this is not valid JSON: expected `,` or `}`"),
        ('{"id": "w"', 1, 11, "this is not valid JSON: expected `,` or `}`"),
        ('{"id":', 1, 7, "this is not valid JSON: the text ends where a value should be"),
        ('{"id":,', 1, 7, "this is not valid JSON: a value is missing"),
        ('{"id": "w', 1, 8, "this is not valid JSON: unterminated string starting at"),
        ('{"id": "\\x"}', 1, 9, "this is not valid JSON: invalid \\escape"),
        ('{"id": "w"} {}', 1, 13, "this is not valid JSON: there is more text behind the end of the value"),
        ('{"id": "w", "name": "a", "name": "b"}', 1, 26, "the key `name` stands in line 1 already"),
        ('{"id": "w", "name": "\\ud800"}', 1, 21, "half a surrogate pair (U+D800) has no UTF-8 form"),
        ('{"id": "w", "labels": ' + "[" * 40, 1, 54, "this is not valid JSON: nested deeper than 32 levels"),
        ('{"id": "w",\n "tasks": [{"name": "甲", "job": "noop", "dependson": []}]}', 2, 41,
         "unknown key `dependson`, did you mean `depends_on`?"),
    ],
)  # fmt: skip
def test_faults_in_json_have_positions(text: str, line: int, column: int, message: str) -> None:
    with pytest.raises(InvalidDefinition) as caught:
        read_json(text, file="w.json")
    [problem] = caught.value.problems
    assert (problem.line, problem.column, problem.message) == (line, column, message)


def test_json_takes_pairs_of_surrogates_that_yaml_has_not() -> None:
    assert read_json('{"id": "w", "name": "\\ud83d\\ude00"}').name == "😀"


def test_a_built_in_job_that_is_off_is_told_from_one_that_nobody_knows() -> None:
    text = "id: w\ntasks:\n  - {name: a, job: shell_command, params: {argv: [ls]}}\n  - {name: b, job: shel}\n"
    with pytest.raises(InvalidDefinition) as caught:
        read_yaml(text, jobs=["noop"])
    off, unknown = [problem.message for problem in caught.value.problems]
    assert off == (
        "unknown job `shell_command`, which is built in but not enabled here; "
        "add it to `functions.builtin` of the configuration"
    )
    assert unknown == "unknown job `shel`"


def test_the_reader_knows_the_names_of_the_built_in_jobs() -> None:
    assert frozenset(BUILTINS) == BUILTIN_JOBS
