"""taskengine/config: every key is heard from every side, the stronger side wins, and every mistake is told."""

import re
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from taskengine.config import Config, Settings, find_file, load
from taskengine.config.keys import FLAGS, KEYS, Key
from taskengine.config.values import POOLS, parse, pool_shapes, shown, split_list
from taskengine.errors import InvalidConfiguration

EXAMPLE = Path(__file__).parents[3] / "configs" / "server.yaml"
REFERENCE = Path(__file__).parents[3] / "docs" / "configuration.md"

OTHER: Mapping[str, str] = {
    "server.host": "::1",
    "server.port": "0",
    "server.read_timeout": "1m30s",
    "server.write_timeout": "500ms",
    "server.tls_cert": "证书.pem",
    "server.tls_key": "key.pem",
    "server.behind_proxy": "10.0.0.7,192.168.0.0/16",
    "server.read_only": "true",
    "server.allowed_hosts": "tasks.example.com",
    "server.allowed_origins": "https://ops.example.com",
    "server.max_clients": "7",
    "server.max_clients_per_token": "3",
    "server.access_log": "yes",
    "task-engine.general.instance_name": "行情",
    "task-engine.general.log_level": "debug",
    "task-engine.general.log_format": "json",
    "task-engine.storage.database.type": "sqlite",
    "task-engine.storage.database.dsn": "/var/lib/数据.db",
    "task-engine.storage.database.pool_size": "9",
    "task-engine.storage.retention.success": "7d",
    "task-engine.storage.retention.failed": "none",
    "task-engine.storage.artifacts.url": "/var/lib/results",
    "task-engine.storage.artifacts.inline": "64KiB",
    "task-engine.storage.artifacts.limit": "1MiB",
    "task-engine.storage.database.durability": "normal",
    "task-engine.execution.worker_concurrency": "3",
    "task-engine.execution.pools": "io=50,接口=5@50/s",
    "task-engine.execution.process_workers": "5",
    "task-engine.execution.default_task_timeout": "none",
    "task-engine.execution.retry.count": "4",
    "task-engine.execution.retry.interval": "2s",
    "task-engine.execution.retry.max_interval": "1h",
    "task-engine.execution.max_recoveries": "0",
    "task-engine.execution.grace": "3",
    "task-engine.limits.definition": "2MiB",
    "task-engine.limits.body": "1KiB",
    "task-engine.limits.starts_per_second": "2.5",
    "task-engine.limits.failed_logins": "1",
    "task-engine.limits.log_lines": "100",
    "functions.builtin": "log,shell_command",
    "functions.modules": "mycompany.jobs",
    "functions.apps": "jobs.py",
}
"""Another value than the default for every key; only the kind of database has no other."""

ALL = sorted(KEYS)
PAIRED = {"server.tls_cert": {"server.tls_key": "k"}, "server.tls_key": {"server.tls_cert": "c"}}
PAIRED["task-engine.execution.retry.interval"] = {"task-engine.execution.retry.max_interval": "1h"}


def write(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def nested(settings: Mapping[str, Any]) -> dict[str, Any]:
    root: dict[str, Any] = {}
    for name, value in settings.items():
        *above, last = KEYS[name].path
        place = root
        for part in above:
            place = place.setdefault(part, {})
        place[last] = value
    return root


def yaml_of(settings: Mapping[str, str]) -> str:
    written = {name: written_of(name, text) for name, text in settings.items()}
    dumped: str = yaml.safe_dump(nested(written), allow_unicode=True)
    return dumped


def written_of(name: str, text: str) -> Any:
    if KEYS[name].type == POOLS:
        return pool_shapes(parse(KEYS[name], split_list(text)))
    return list(split_list(text)) if is_list(name) else text


def is_list(name: str) -> bool:
    return isinstance(KEYS[name].default, tuple)


def raw_of(name: str, text: str) -> Any:
    return split_list(text) if is_list(name) else text


def refusal(path: Path | None, environ: Mapping[str, str] = {}, flags: Mapping[str, object] = {}) -> str:
    with pytest.raises(InvalidConfiguration) as caught:
        load(path, environ, flags)
    return str(caught.value)


def only_change(settings: Settings, name: str) -> Any:
    """The value of the key; everything else but its partner is as by default."""
    changed = {key.name for key in KEYS.values() if key.of(settings.config) != key.default}
    assert changed - set(PAIRED.get(name, ())) <= {name}
    return KEYS[name].of(settings.config)


def test_every_key_has_another_value_to_try() -> None:
    assert sorted(OTHER) == ALL
    same = [key.name for key in KEYS.values() if parse(key, raw_of(key.name, OTHER[key.name])) == key.default]
    assert same == []


@pytest.mark.parametrize("name", ALL)
def test_the_file_sets_a_key_and_no_other(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, yaml_of({name: OTHER[name], **PAIRED.get(name, {})}))
    settings = load(path, {}, {})
    assert only_change(settings, name) == parse(KEYS[name], raw_of(name, OTHER[name]))
    assert settings.origins[name].kind == "file"
    assert settings.origins[name].place.startswith(f"{path}:")


@pytest.mark.parametrize("name", ALL)
def test_a_variable_sets_a_key_and_no_other(name: str) -> None:
    given = {name: OTHER[name], **PAIRED.get(name, {})}
    settings = load(None, {KEYS[each].variable: text for each, text in given.items()}, {})
    assert only_change(settings, name) == parse(KEYS[name], raw_of(name, OTHER[name]))
    assert str(settings.origins[name]) == f"environment {KEYS[name].variable}"


@pytest.mark.parametrize("name", sorted(FLAGS))
def test_flag_beats_variable_beats_file_beats_default(name: str, tmp_path: Path) -> None:
    key, partner = KEYS[name], PAIRED.get(name, {})
    path = write(tmp_path, yaml_of({name: OTHER[name], **partner}))
    by_variable = {key.variable: shown(key, key.default).strip("[]") if key.default is not None else "variable.pem"}
    variables = {key.variable: by_variable[key.variable]}
    assert load(path, {}, {}).origins[name].kind == "file"
    assert load(path, variables, {}).origins[name].kind == "environment"
    flagged = load(path, variables, {name: raw_of(name, OTHER[name])})
    assert str(flagged.origins[name]) == f"flag {FLAGS[name]}"
    assert key.of(flagged.config) == parse(key, raw_of(name, OTHER[name]))
    assert load(path, {}, {name: None}).origins[name].kind == "file"


def test_the_example_is_every_key_with_its_default() -> None:
    settings = load(EXAMPLE, {}, {})
    assert settings.config == Config()
    assert {name for name, origin in settings.origins.items() if origin.kind == "file"} == set(KEYS)


def test_the_reference_names_every_key_with_its_variable_and_default() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    missing = [
        key.name
        for key in KEYS.values()
        if f"`{key.path[-1]}`" not in text or key.variable not in text or f"`{shown(key, key.default)}`" not in text
    ]
    assert missing == []


def test_every_field_is_explained_where_it_is_declared() -> None:
    import ast

    from taskengine.config import sections

    tree = ast.parse(Path(sections.__file__).read_text(encoding="utf-8"))
    bare = []
    for section in [node for node in tree.body if isinstance(node, ast.ClassDef)]:
        for field, behind in zip(section.body, [*section.body[1:], None], strict=True):
            leaf = isinstance(field, ast.AnnAssign) and "Config" not in ast.unparse(field.annotation)
            if leaf and not (isinstance(behind, ast.Expr) and isinstance(behind.value, ast.Constant)):
                bare.append(ast.unparse(field))
    assert bare == []


# -- mistakes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("server:\n  prot: 80\n", ":2:3: unknown key `prot` of server, did you mean `port`?"),
        ("sever: {}\n", ":1:1: unknown key `sever`, did you mean `server`?"),
        ("port: 80\n", ":1:1: unknown key `port`; it belongs to `server`"),
        ("server: {wombat: 1}\n", "unknown key `wombat` of server; there are host, port"),
        ("server:\n  port: many\n", ":2:9: server.port: `many` is no whole number"),
        ("server:\n  port: 70000\n", "70,000 is not between 0 and 65,535"),
        ("server:\n  port:\n", ":2:3: server.port: it has no value; leave the key out for its default, 8080"),
        ("server:\n  port: [1, 2]\n", "it is one value and not a list"),
        ("server: 5\n", ":1:9: a mapping is expected, with keys such as host, port, read_timeout"),
        ("- a\n", "a mapping is expected"),
        ("server: {read_timeout: soon}\n", "`soon` is no duration"),
        ("server: {behind_proxy: yes}\n", "it is a list; write it as [yes]"),
        ("server: {behind_proxy: [proxy.local]}\n", "`proxy.local` is no address or network"),
        ("server: {allowed_origins: [ops.example.com]}\n", "`ops.example.com` is no origin"),
        ("server: {host: '*'}\n", "`*` is no address to listen on"),
        ("server: {read_only: perhaps}\n", "`perhaps` is neither true nor false"),
        ("server: {port: 1}\nserver: {port: 2}\n", ":2:1: the key `server` stands in line 1 already"),
        ("<<: {}\n", "a key is a plain text"),
        ("task-engine: {general: {log_level: debag}}\n", "did you mean `debug`?"),
        ("task-engine: {limits: {definition: 32MiB}}\n", "32MiB is not between 1KiB and 16MiB"),
        ("task-engine: {limits: {body: 1MB}}\n", "`1MB` is no size; write it as 256KiB"),
        ("task-engine: {execution: {pools: 5}}\n", ":1:34: a mapping is expected here, such as {io: 50, api: {slots"),
        ("task-engine: {execution: {pools: [io=5]}}\n", ":1:34: a mapping is expected here"),
        ("task-engine: {execution: {pools: {io: 0}}}\n", ":1:35: 0 slots for the pool `io`; 1..10,000 are possible"),
        ("task-engine: {execution: {pools: {io: many}}}\n", ":1:39: `many` is no number of slots"),
        ("task-engine: {execution: {pools: {io: [5]}}}\n", ":1:39: a single value is expected here"),
        ("task-engine: {execution: {pools: {io: {rate: 5/s}}}}\n", ":1:35: the pool has no `slots`"),
        ("task-engine: {execution: {pools: {io: {slot: 5}}}}\n", ":1:40: unknown key `slot`"),
        ("task-engine: {execution: {pools: {io: {slots: 5, rate: 5}}}}\n", ":1:56: `5` is no rate; write it as 50/s"),
        (
            "task-engine: {execution: {pools: {io: {slots: 5, rate: 0/s}}}}\n",
            "a rate of 0/s; 1..1,000,000 are possible",
        ),
        ("task-engine: {execution: {pools: {a b: 5}}}\n", ":1:35: the name of the pool `a b` has a space in it"),
        ("task-engine: {execution: {pools: {io: 5, IO: 6}}}\n", "the pools `io` and `IO` have the same name"),
        ("task-engine: {execution: {cluster: {kind: dask}}}\n", "`cluster` is not supported yet"),
        ("plugins: []\n", "`plugins` is not supported yet"),
        ("task-engine: {storage: {database: {type: postgresql}}}\n", "dsn is the address of a sqlite database"),
        ("functions: {modules: [a-b]}\n", "`a-b` is no module name"),
        ("server: {tls_cert: a.pem}\n", "server.tls_key is missing; TLS needs both"),
        ("task-engine: {execution: {retry: {max_interval: 10ms}}}\n", "it is shorter than retry.interval"),
        ("server: {port: 1\n", "this is not valid YAML"),
        ("[" * 3000, "this is not valid YAML"),
    ],
)
def test_a_mistake_in_the_file_is_told_with_its_place(text: str, wanted: str, tmp_path: Path) -> None:
    message = refusal(write(tmp_path, text))
    assert wanted in message
    assert "config.yaml" in message


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, "server:\n  port: x\n  hots: a\n")
    message = refusal(path, {"TASKENGINE_EXECUTION__GRACE": "soon", "TASKENGINE_SERVER__PROT": "1"})
    assert [wanted in message for wanted in ("`x`", "`hots`", "`soon`", "TASKENGINE_SERVER__PORT")] == [True] * 4


@pytest.mark.parametrize(
    ("variable", "wanted"),
    [
        ("TASKENGINE_SERVER__PROT", "did you mean `TASKENGINE_SERVER__PORT`?"),
        ("TASKENGINE_WOMBAT__X", "docs/configuration.md lists them"),
        ("TASKENGINE_EXECUTION__CLUSTER", "not supported yet"),
    ],
)
def test_a_variable_that_sets_nothing_is_an_error(variable: str, wanted: str) -> None:
    assert wanted in refusal(None, {variable: "1"})


def test_other_variables_of_the_program_are_no_settings() -> None:
    environ = {"TASKENGINE_HOME": "/x", "TASKENGINE_SERVER": "http://x", "TASKENGINE_SECRET_A__B": "s", "PATH": "/bin"}
    assert load(None, environ, {}).config == Config()


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    assert "cannot be read: No such file" in refusal(tmp_path / "none.yaml")


def test_a_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in refusal(path)


@pytest.mark.parametrize("text", ["", "# nothing\n", "server:\n", "task-engine:\n  execution:\n"])
def test_an_empty_section_means_defaults(text: str, tmp_path: Path) -> None:
    assert load(write(tmp_path, text), {}, {}).config == Config()


# -- references and lists ------------------------------------------------------------------------------------------


def test_a_reference_takes_the_variable_else_its_default(tmp_path: Path) -> None:
    text = "server: {port: '${ENV:PORT:9000}', host: '${ENV:HOST}'}\n"
    path = write(tmp_path, text)
    assert load(path, {"HOST": "::1"}, {}).config.server.port == 9000
    assert load(path, {"HOST": "::1", "PORT": "9001"}, {}).config.server.port == 9001
    assert "the environment has no variable `HOST`" in refusal(path)


def test_a_reference_may_stand_inside_a_text_or_be_a_list(tmp_path: Path) -> None:
    text = (
        "task-engine: {storage: {database: {dsn: '${ENV:ROOT}/数据.db'}}, general: {instance_name: '$${ENV:X}'}}\n"
        "functions: {modules: '${ENV:MODULES}'}\n"
    )
    config = load(write(tmp_path, text), {"ROOT": "/srv", "MODULES": "a, b.c"}, {}).config
    assert config.engine.storage.database.dsn == "/srv/数据.db"
    assert config.engine.general.instance_name == "${ENV:X}"
    assert config.functions.modules == ("a", "b.c")


@pytest.mark.parametrize(
    ("text", "items"), [("", ()), ("a", ("a",)), (" a , b,", ("a", "b")), ('["a,b", "c"]', ("a,b", "c")), ("[]", ())]
)
def test_a_list_in_one_text(text: str, items: tuple[str, ...]) -> None:
    assert split_list(text) == items


@pytest.mark.parametrize("text", ["[1]", "[a"])
def test_a_broken_list_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="list"):
        split_list(text)


@pytest.mark.parametrize("key", KEYS.values(), ids=list(KEYS))
def test_what_is_shown_can_be_read_back(key: Key) -> None:
    for value in (key.default, parse(key, raw_of(key.name, OTHER[key.name]))):
        text = shown(key, value)
        if key.type == POOLS:
            text = ",".join(f"{name}={said}" for name, said in yaml.safe_load(text).items())
            text = re.sub(r"\{'slots': (\d+), 'rate': '(.*?)'\}", r"\1@\2", text)
        assert parse(key, split_list(text.strip("[]")) if is_list(key.name) else text) == value


def test_a_bare_number_is_a_duration_in_seconds() -> None:
    assert load(None, {"TASKENGINE_EXECUTION__GRACE": "1.5"}, {}).config.engine.execution.grace == timedelta(
        seconds=1.5
    )


def test_the_file_is_the_named_one_and_never_one_that_lies_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "server: {port: 1}\n")
    assert find_file(None, {}) is None
    assert find_file(None, {"TASKENGINE_CONFIG": "b.yaml"}) == Path("b.yaml")
    assert find_file("a.yaml", {"TASKENGINE_CONFIG": "b.yaml"}) == Path("a.yaml")
