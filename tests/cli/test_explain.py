"""`taskengine explain`: why, because of which tasks, and what to type."""

from collections.abc import Callable
from typing import Any

Main = Callable[..., Any]
Upload = Callable[..., str]


def _waiting(main: Main, served: Any, upload: Upload) -> str:
    workflow_id = upload(
        "name: ok, wait_for: {approval: true}",
        "name: load, job: noop, depends_on: [ok]",
        "name: report, job: noop, depends_on: [load]",
    )
    return str(main("workflow", "execute", workflow_id, *served.flags).stdout.strip())


def test_what_waits_is_explained_with_a_command_that_releases_it(
    main: Main, served: Any, upload: Upload, until: Callable[..., Any]
) -> None:
    instance = _waiting(main, served, upload)

    def asked(*words: str) -> Any:
        return main("explain", instance, *words, *served.flags)

    until(lambda: "which waits for the approval" in asked("report").stdout)
    done = asked("report")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.lines[0] == f"Pending: task report of instance {instance}"
    assert done.lines[1].startswith(
        "`report` waits for `load`; that begins with `ok`, which waits for the approval `ok`"
    )
    assert any(line.split()[:2] == ["ok", "Waiting"] for line in done.lines)
    approve = next(line for line in done.lines if "somebody approves" in line)
    command = approve[approve.index("taskengine ") :].split()
    assert command == ["taskengine", "instance", "approve", instance, "ok", "--server", served.address]
    assert main(*command[1:], "--token-file", served.token_file).returncode == 0
    until(lambda: asked().stdout.startswith("Success: instance "))
    assert "has ended well" in asked().stdout


def test_the_data_has_one_shape(main: Main, served: Any, upload: Upload) -> None:
    instance = _waiting(main, served, upload)
    data = main("explain", instance[:30], "report", "--json", *served.flags).data
    assert list(data) == [
        *("instance_id", "instance_status", "task", "status", "why", "because", "more", "releases"),
    ]
    assert main("explain", instance, "-o", "id", *served.flags).lines == [instance]
    main("instance", "cancel", instance, *served.flags)


def test_what_is_not_there_ends_with_3_and_the_nearest_name(main: Main, served: Any, upload: Upload) -> None:
    instance = _waiting(main, served, upload)
    for flags in (served.flags, served.db):
        assert main("explain", "ffffffff", *flags).returncode == 3
        for typed in ("reprot", ""):
            done = main("explain", instance, typed, *flags)
            assert (done.returncode, done.stdout) == (3, "")
        assert "did you mean `report`?" in main("explain", instance, "reprot", *flags).stderr
    assert main("explain").returncode == 2
    main("instance", "cancel", instance, *served.flags)


def test_a_run_of_this_machine_is_explained_without_a_server(main: Main, workflow: Callable[..., str]) -> None:
    file = workflow("name: bad, job: fail, params: {message: no disk}", "name: last, job: noop, depends_on: [bad]")
    done = main("run", file, "--json")
    assert done.returncode == 9
    found = main("explain", done.data["id"], "last")
    assert (found.returncode, found.stderr) == (0, "")
    assert "because of `bad`, which failed: " in found.stdout
    assert "no disk" in found.stdout
    assert f"taskengine instance retry {done.data['id']} --from bad" in found.stdout


def test_a_run_whose_process_died_says_how_to_go_on(
    main: Main, start: Callable[..., Any], workflow: Callable[..., str], until: Callable[..., Any]
) -> None:
    file = workflow("name: nap, job: sleep, params: {duration: 60s}", "name: last, job: noop, depends_on: [nap]")
    process = start("run", file)
    until(lambda: _sleeps(main))
    instance = main("instance", "list", "--runs", "-o", "id").lines[0]
    assert "No process runs" not in main("explain", instance, "last").stderr
    process.kill()
    process.wait()
    done = main("explain", instance, "last")
    assert "`last` waits for `nap`, which sleeps until " in done.stdout
    assert f"No process runs {instance} now. Go on with it:  taskengine run --resume {instance}" in done.stderr


def _sleeps(main: Main) -> bool:
    listed = main("instance", "list", "--runs", "-o", "id").lines
    return bool(listed) and "sleeps until" in main("explain", listed[0], "nap").stdout
