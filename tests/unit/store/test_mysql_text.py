"""What is sent to MySQL and MariaDB: values, statements, packets. Whether the server reads it so is test_mysql.py's."""

import json
import re
from typing import Any

import pytest
from asyncmy.errors import InterfaceError, InternalError, OperationalError
from hypothesis import given
from hypothesis import strategies as st

from taskengine.errors import BatchRefused, InvalidConfiguration, StoreError, StoreFull, StoreUnavailable
from taskengine.model.records import TaskChange, TaskGuard, TaskRow
from taskengine.model.states import TaskState
from taskengine.store.batch import Batch, merge
from taskengine.store.mysql import kind_of
from taskengine.store.mysql_address import connect_options
from taskengine.store.mysql_batch import Statement, packets, statements
from taskengine.store.mysql_errors import ends_link, translate
from taskengine.store.mysql_text import filled, literal, row

LITERALS = {
    None: b"null",
    7: b"7",
    -(1 << 63): b"-9223372036854775808",
    "": b'""',
    "引擎": '"引擎"'.encode(),
    "it's": b'"it\'s"',
    'a "b"': b'"a \\"b\\""',
    "a\\": b'"a\\\\"',
    "\\u0041": b'"\\\\u0041"',
    "\\\x01": b'"\\\\\x01"',
    "\x00": b'"\\0"',
    "\x1a\x7f": b'"\x1a\x7f"',
    "\n\r\t\b\f": b'"\\n\\r\\t\\b\x0c"',
    "50%_": b'"50%_"',
}


@pytest.mark.parametrize("value", LITERALS, ids=ascii)
def test_a_value_is_written_as_their_sql_reads_it(value: object) -> None:
    written = literal(value)
    assert written == LITERALS[value]
    assert row([value, 1]) == b"(" + written + b",1)"


ESCAPES = {"0": "\0", "b": "\b", "n": "\n", "r": "\r", "t": "\t", "Z": "\x1a"}


def _read(written: bytes) -> str:
    """As the manual says that a server does, without ANSI_QUOTES and NO_BACKSLASH_ESCAPES."""
    text = written.decode()
    assert text[0] == text[-1] == '"'
    assert not re.search(r'(?<!\\)(?:\\\\)*"', text[1:-1])
    return re.sub(r"\\(.)", lambda match: ESCAPES.get(match[1], match[1]), text[1:-1], flags=re.DOTALL)


@given(st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from("\\\"'\x00\x0b\x0cu01%")))
def test_any_text_is_read_as_it_was(text: str) -> None:
    assert _read(literal(text)) == text
    assert _read(literal(json.dumps(text))) == json.dumps(text)


def test_a_list_follows_in() -> None:
    assert literal(["a", "b"]) == b'("a","b")'
    assert literal([1, 2]) == b"(1,2)"
    assert literal([]) == b"(NULL)"
    assert filled("SELECT %s, 5 %% 2 IN %s", ["%s", [3]]) == 'SELECT "%s", 5 % 2 IN (3)'


def test_half_a_surrogate_pair_has_no_form() -> None:
    for wrong in ("\ud83d", ["\ud83d"]):
        with pytest.raises(ValueError, match="surrogates"):
            literal(wrong)


# -- statements --------------------------------------------------------------------------------------------------------


def _moves(make: Any, count: int, **values: Any) -> Batch:
    changes = tuple(
        TaskChange(
            TaskRow(**{"ordinal": n, "name": "t", "state": TaskState.RUNNING, "attempt": 1, **values}),
            TaskGuard(TaskState.READY, 1),
        )
        for n in range(count)
    )
    return merge([make.decision("i", 2, tasks=changes)], epoch=3, lane=1, number=7, acknowledged=5)


def test_a_batch_is_one_transaction_that_begins_with_its_own_row(make: Any) -> None:
    made = list(statements(merge([make.start("i")], epoch=3, lane=1, number=7, acknowledged=5)))
    assert [(it.what, it.table) for it in made] == [
        ("frame", ""),
        ("own", "batches"),
        ("rows", "instances"),
        ("rows", "tasks"),
        ("rows", "events"),
        ("frame", ""),
        ("frame", ""),
    ]
    assert (made[0].text, made[-1].text) == (b"START TRANSACTION", b"COMMIT")
    assert b"epoch = 3 LOCK IN SHARE MODE), 1, 7)" in made[1].text
    assert b"epoch = 3 AND lane = 1 AND number < 5" in made[-2].text


@pytest.mark.parametrize(("count", "sizes"), [(0, []), (1, [1]), (2, [1, 1]), (3, [3]), (301, [300, 1])])
def test_every_change_is_followed_by_its_check(make: Any, count: int, sizes: list[int]) -> None:
    made = [it for it in statements(_moves(make, count)) if it.table == "tasks"]
    assert [it.what for it in made] == ["rows", "check"] * len(sizes)
    assert [int(re.findall(rb"<> (\d+)\)", it.text)[0]) for it in made[1::2]] == sizes
    assert [it.text.count(b"SELECT") for it in made[::2]] == [0 if count <= 2 else size for size in sizes]


def test_one_changed_row_is_told_only_what_changes(make: Any) -> None:
    kept, new = (next(it.text for it in statements(_moves(make, 1, **values)) if it.table == "tasks")
                 for values in ({}, {"result": b"1", "error": None}))  # fmt: skip
    assert b"`result`" not in kept
    assert b"`error`" not in kept
    assert b'`result` = "1", `error` = null WHERE `instance_id` = "i" AND `ordinal` = 0' in new


def test_large_rows_are_statements_apart(make: Any) -> None:
    for count in (2, 4):
        texts = [it.text for it in statements(_moves(make, count, result=b'"%b"' % (b"x" * 600_000)))]
        assert sum(b"xxx" in text for text in texts) == count
    small = [it.text for it in statements(_moves(make, 4, result=b'"x"'))]
    assert sum(b'"\\"x\\""' in text for text in small) == 1


def test_a_packet_has_as_many_statements_as_fit() -> None:
    made = [Statement("rows", "tasks", b"x" * size) for size in (10, 10, 10, 40, 5)]
    cut = [[len(it.text) for it in part] for part in packets(made, 41)]
    assert cut == [[10, 10, 10], [40], [5]]
    assert [it for part in packets(made, 41) for it in part] == made
    assert len(list(packets(made, 1000))) == 1
    with pytest.raises(
        BatchRefused, match=r"tasks was refused: unfit \(a row of 41 bytes, and this server's max_allow"
    ):
        list(packets(made, 40))


# -- errors ------------------------------------------------------------------------------------------------------------

MEANINGS = {
    (1205, "Lock wait timeout exceeded"): (StoreUnavailable, False),
    (1213, "Deadlock found"): (StoreUnavailable, False),
    (1290, "running with the --read-only option"): (StoreUnavailable, False),
    (1040, "Too many connections"): (StoreUnavailable, False),
    (1053, "Server shutdown in progress"): (StoreUnavailable, True),
    (1927, "Connection was killed"): (StoreUnavailable, True),
    (2006, "gone away"): (StoreUnavailable, True),
    (2013, "lost"): (StoreUnavailable, True),
    (1114, "The table is full"): (StoreFull, False),
    (1021, "Disk full"): (StoreFull, False),
    (1064, "You have an error in your SQL syntax"): (StoreError, False),
    (1146, "Table doesn't exist"): (StoreError, False),
    (1049, "Unknown database"): (InvalidConfiguration, False),
    (1045, "Access denied"): (InvalidConfiguration, False),
    (1142, "command denied"): (InvalidConfiguration, False),
    (1130, "Host is not allowed"): (InvalidConfiguration, False),
}


@pytest.mark.parametrize("args", MEANINGS, ids=lambda args: str(args[0]))
def test_a_number_of_the_server_means_one_thing(args: tuple[int, str]) -> None:
    kind, ends = MEANINGS[args]
    error = OperationalError(*args)
    assert type(translate(error, "mysql://h/d")) is kind
    assert str(translate(error, "mysql://h/d")).startswith(f"mysql://h/d: {args[0]} {args[1]}")
    assert ends_link(error) is ends


@pytest.mark.parametrize(
    "error", [InterfaceError(0, "Not connected"), InternalError("Packet sequence number wrong"), OperationalError()]
)
def test_what_the_driver_says_itself_is_about_the_connection(error: Any) -> None:
    assert type(translate(error, "h")) is StoreUnavailable
    assert ends_link(error)


# -- addresses ---------------------------------------------------------------------------------------------------------


def test_an_address_is_taken_apart() -> None:
    plain = connect_options("mysql://127.0.0.1/test")
    assert plain == {
        "host": "127.0.0.1", "port": 3306, "user": None, "password": b"", "database": "test", "ssl": None
    }  # fmt: skip
    whole = connect_options("mariadb://%E6%88%91:p%40%3A%C3%A9@[::1]:3307/%E5%BC%95?ssl_mode=required&unix_socket=/s")
    context = whole.pop("ssl")
    assert whole == {
        "host": "::1", "port": 3307, "user": "我", "password": "p@:é".encode(), "database": "引", "unix_socket": "/s"
    }  # fmt: skip
    assert (context.check_hostname, context.verify_mode.name) == (False, "CERT_NONE")


@pytest.mark.parametrize(("mode", "host"), [("verify_ca", False), ("VERIFY_IDENTITY", True)])
def test_a_certificate_is_verified_when_that_is_asked_for(mode: str, host: bool) -> None:
    context = connect_options(f"mysql://h/d?ssl_mode={mode}")["ssl"]
    assert (context.check_hostname, context.verify_mode.name) == (host, "CERT_REQUIRED")


VERSIONS = {
    "8.0.20": "MySQL",
    "8.4.3-commercial": "MySQL",
    "9.1.0": "MySQL",
    "5.5.5-10.11.19-MariaDB-0+deb12u1": "MariaDB",
    "10.6.0-MariaDB": "MariaDB",
    "11.4.2-MariaDB-log": "MariaDB",
}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_server_of_the_right_age_is_known(version: str) -> None:
    assert kind_of(version, "h") == VERSIONS[version]


@pytest.mark.parametrize("version", ["8.0.19", "5.7.44", "5.5.5-10.5.29-MariaDB", "10.3.1-MariaDB", "what"])
def test_a_server_that_is_too_old_is_refused(version: str) -> None:
    with pytest.raises(InvalidConfiguration, match=r"h is M.* needed is MySQL 8\.0\.20 or MariaDB 10\.6\.0, or later"):
        kind_of(version, "h")
