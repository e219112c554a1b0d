"""Both clients against a real server: every verb, streams, logs, tokens."""

import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from api.apiworld import LIMIT_S, ApiWorld, background_server
from client.clientworld import Either

from taskengine import TaskBuilder, TaskContext, WorkflowBuilder
from taskengine.client import AsyncClient, Client, verbs
from taskengine.client.calls import Call
from taskengine.errors import Conflict, InvalidDefinition, InvalidInput, InvalidParams, NotAllowed, NotFound
from taskengine.wire import GraphBody, InstanceStatus, LogUpdate, Snapshot, TaskStatus

LINEAR = """\
id: 顺序
params: {city: {type: string, default: 上海}}
tasks:
  - {name: first, job: speak, params: {text: "${{ params.city }}"}}
  - {name: second, job: speak, params: {text: done}, depends_on: [first]}
"""
GATED = """\
id: gated
labels: {team: quant}
tasks:
  - {name: hold, job: hold}
  - {name: after, job: speak, params: {text: through}, depends_on: [hold]}
"""


class Gate:
    """What the job `hold` waits for."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.reached = threading.Event()

    def hold(self) -> str:
        self.reached.set()
        assert self.open.wait(LIMIT_S)
        return "held"


async def speak(ctx: TaskContext, text: str) -> str:
    ctx.log.info("I say %s", text)
    return text


GATE = Gate()


@pytest.fixture(scope="module")
def served() -> Iterator[ApiWorld]:
    with background_server(jobs={"speak": speak, "hold": GATE.hold}) as world:
        with Client(f"http://127.0.0.1:{world.port}", world.secrets["admin"]) as client:
            client.upload(LINEAR)
            client.upload(GATED)
        yield world


@pytest.fixture
def held() -> Iterator[Gate]:
    """The job `hold` holds until the test opens the gate, and at the latest at its end."""
    GATE.open.clear(), GATE.reached.clear()
    yield GATE
    GATE.open.set()


class Asker:
    """One of the clients at the real server."""

    def __init__(self, either: Either, world: ApiWorld, scope: str = "admin") -> None:
        self._either, self.address = either, f"http://127.0.0.1:{world.port}"
        self._options = {"token": world.secrets[scope]}

    def __call__(self, verb: str, *args: Any, **named: Any) -> Any:
        return self._either.ask(self.address, verb, *args, options=self._options, **named)

    def take(self, verb: str, *args: Any, **named: Any) -> list[Any]:
        return self._either.take(self.address, verb, *args, options=self._options, **named)


@pytest.fixture
def ask(either: Either, served: ApiWorld) -> Asker:
    return Asker(either, served)


def test_a_workflow_is_uploaded_described_and_forgotten(ask: Asker) -> None:
    text = "id: brief\ntasks: [{name: one, job: speak, params: {text: x}}]\n"
    assert ask("validate", text).created
    done = ask("upload", text)
    assert (done.id, done.created, ask("upload", text.encode()).changed) == ("brief", True, False)
    assert ask("upload", text + "description: second\n").changed
    versions = ask("versions", "brief")
    assert [each.current for each in versions] == [True, False]
    assert ask("workflow", "brief").description == "second"
    assert ask("workflow", "brief", version=done.version[:8]).version == done.version
    assert "second" in ask("export", "brief")
    assert "brief" in [each.id for each in ask("workflows")]
    assert ask("delete_workflow", "brief") is None
    with pytest.raises(NotFound, match="no workflow 'brief'"):
        ask("workflow", "brief")


def test_what_was_built_in_python_can_be_uploaded(ask: Asker) -> None:
    task = TaskBuilder("one").with_job_function("speak", {"text": "x"})
    built = WorkflowBuilder("built").with_id("built").with_task(task).build()
    assert ask("upload", built).id == "built"


@pytest.mark.parametrize(
    ("format", "part"),
    [("mermaid", "graph"), ("dot", "digraph"), ("svg", "<svg"), ("ascii", "second"), ("json", '"nodes"')],
)
def test_a_graph_comes_in_every_form(ask: Asker, format: str, part: str) -> None:
    assert part in ask("graph", "顺序", format)


def test_a_graph_as_json_is_a_graph_body(ask: Asker) -> None:
    import msgspec

    graph = msgspec.json.decode(ask("graph", "顺序", "json"), type=GraphBody)
    assert [(edge.before, edge.after) for edge in graph.edges] == [("first", "second")]


def test_all_problems_of_a_definition_arrive(ask: Asker) -> None:
    with pytest.raises(InvalidDefinition) as caught:
        ask("upload", "id: bad\ntasks:\n  - {name: a, job: nowhere}\n  - {name: b, job: speak, depends_on: [c]}\n")
    assert len(caught.value.problems) >= 2
    assert {problem.line for problem in caught.value.problems} == {3, 4}


def test_an_instance_is_started_and_waited_for(ask: Asker) -> None:
    reply = ask("execute", "顺序", {"city": "北京"}, wait=LIMIT_S)
    assert reply.instance is not None
    assert (reply.instance.status, reply.instance.params) == ("Success", {"city": "北京"})
    assert reply.instance.result == {"second": "done"}
    assert ask("instance", reply.instance_id, wait=1).progress.completed == 2
    detail = ask("detail", reply.instance_id)
    assert [task.result for task in detail.tasks] == ["北京", "done"]
    assert ask("task", reply.instance_id, "second").depends_on == ["first"]
    assert [task.name for task in ask("tasks", reply.instance_id)] == ["first", "second"]


def test_one_key_makes_one_instance(ask: Asker) -> None:
    key = f"每日 {id(ask)}"
    first = ask("execute", "顺序", idempotency_key=key)
    assert ask("execute", "顺序", idempotency_key=key).instance_id == first.instance_id
    with pytest.raises(Conflict):
        ask("execute", "顺序", {"city": "other"}, idempotency_key=key)


def test_wrong_params_are_told_by_name(ask: Asker) -> None:
    with pytest.raises(InvalidParams, match="town"):
        ask("execute", "顺序", {"town": "x"})
    with pytest.raises(NotFound):
        ask("execute", "nowhere")


def test_instances_are_found_by_what_they_are(ask: Asker) -> None:
    made = {ask("execute", "顺序", wait=LIMIT_S).instance_id for _ in range(3)}
    found = ask.take("iter_instances", workflow_id="顺序", status=["Success", "Failed"], limit=2)
    assert made <= {each.id for each in found}
    assert len({each.id for each in found}) == len(found)
    newest = ask("instances", workflow_id="顺序", limit=1, total=True)
    assert (newest.has_more, newest.total) == (True, len(found))
    (again,) = ask("instances", prefix=next(iter(made)), created_after=found[-1].created_at).items
    assert again.id in made
    assert ask("history", "顺序", limit=1).total == len(found)
    assert ask("instances", labels={"team": "nobody"}).items == []
    with pytest.raises(InvalidInput):
        ask("instances", limit=1000)


def test_an_instance_is_commanded(ask: Asker, held: Gate) -> None:
    instance_id = ask("execute", "gated").instance_id
    assert ask("pause", instance_id).status in ("Paused", "Pausing", "Running")
    ask("pause", instance_id)
    ask("resume", instance_id)
    assert ask("instances", labels={"team": "quant"}, limit=1).items[0].id == instance_id
    with pytest.raises(Conflict):
        ask("delete_workflow", "gated")
    ask("cancel", instance_id, reason="wrong day")
    held.open.set()
    ended = ask("instance", instance_id, wait=LIMIT_S)
    assert (ended.status, "wrong day" in (ended.error_message or "")) == ("Cancelled", True)
    with pytest.raises(Conflict):
        ask("resume", instance_id)
    ask("retry", instance_id)
    assert ask("instance", instance_id, wait=LIMIT_S).status == "Success"
    for verb in ("pause", "resume", "cancel", "retry", "detail", "logs", "events", "tasks"):
        with pytest.raises(NotFound):
            ask(verb, "nobody")


def test_what_an_instance_said_and_did_is_kept(ask: Asker) -> None:
    instance_id = ask("execute", "顺序", wait=LIMIT_S).instance_id
    lines = ask("logs", instance_id)
    assert [(line.task, line.message) for line in lines] == [("first", "I say 上海"), ("second", "I say done")]
    assert ask("logs", instance_id, tail=1) == lines[1:]
    assert ask("logs", instance_id, since=lines[0].id, task="second") == lines[1:]
    assert ask.take("follow_logs", instance_id) == lines
    assert ask.take("follow_logs", instance_id, tail=1) == lines[1:]
    frames = ask("events", instance_id)
    assert frames[-1].status == "Success"
    assert ask("events", instance_id, after=frames[-1].seq) == []
    assert ask.take("stream", instance_id, since=0) == frames


def test_a_stream_tells_an_instance_to_its_end(ask: Asker, held: Gate) -> None:
    instance_id = ask("execute", "gated").instance_id
    assert held.reached.wait(LIMIT_S)
    states: list[str] = []

    def on_state(state: str, _: str) -> None:
        states.append(state)
        held.open.set()

    snapshot, *frames = ask.take("stream", instance_id, on_state=on_state)
    assert isinstance(snapshot, Snapshot)
    assert snapshot.instances[0].status == "Running"
    assert isinstance(frames[-1], InstanceStatus)
    assert frames[-1].status == "Success"
    moves = [(frame.task_id, frame.status) for frame in frames if isinstance(frame, TaskStatus)]
    assert moves[-1] == ("after", "Success")
    said = [frame.message for frame in frames if isinstance(frame, LogUpdate)]
    assert said == ["I say through"]
    assert states == ["connected", "closed"]


def test_a_stream_over_many_tells_of_each(ask: Asker, served: ApiWorld) -> None:
    def start() -> None:
        with Client(ask.address, served.secrets["operate"]) as client:
            client.execute("顺序")

    starters = [threading.Thread(target=start) for _ in range(2)]

    def on_state(state: str, _: str) -> None:
        if state == "connected":
            for each in starters:
                each.start()

    frames = ask.take("stream", workflow_id="顺序", types=["instance_status"], on_state=on_state, count=5)
    for each in starters:
        each.join(LIMIT_S)
    assert isinstance(frames[0], Snapshot)
    assert {frame.workflow_id for frame in frames[1:]} == {"顺序"}
    missed = ask.take("stream", workflow_id="顺序", types=["instance_status"], since=frames[1].cursor, count=3)
    assert missed == frames[2:]


def test_watching_gives_frames_and_then_the_instance(served: ApiWorld) -> None:
    with Client(f"http://127.0.0.1:{served.port}", served.secrets["operate"]) as client:
        watch = client.watch(client.execute("顺序").instance_id)
        assert any(isinstance(frame, Snapshot) for frame in watch)
        assert watch.result().status == "Success"
        assert client.watch(client.execute("顺序").instance_id).result().status == "Success"
        with closing(client.watch(client.execute("顺序").instance_id)) as left:
            next(iter(left))


async def test_watching_is_awaited_the_same_way(served: ApiWorld) -> None:
    async with AsyncClient(f"http://127.0.0.1:{served.port}", served.secrets["operate"]) as client:
        watch = client.watch((await client.execute("顺序")).instance_id)
        assert [frame async for frame in watch if isinstance(frame, Snapshot)]
        assert (await watch.result()).status == "Success"
        left = client.watch((await client.execute("顺序")).instance_id)
        async for _ in left:
            break
        await left.close()


def test_the_server_tells_of_itself(ask: Asker) -> None:
    assert ask("health").status == "ok"
    assert ask("version").version
    assert ask("status").slots > 0
    assert [node.address for node in ask("nodes")] == [ask.address]
    assert ask("database").kind == "memory"
    assert {"speak", "hold"} <= {function.name for function in ask("functions")}


def test_tokens_are_made_listed_and_revoked(ask: Asker, either: Either) -> None:
    made = ask("create_token", "ci", "read", expires_in=3600)
    assert made.secret.startswith("te_")
    assert either.ask(ask.address, "functions", options={"token": made.secret})
    assert made.id in [token.id for token in ask("tokens")]
    assert ask("revoke_token", made.id).revoked_at is not None
    with pytest.raises(NotAllowed, match="the token that the program gave"):
        either.ask(ask.address, "functions", options={"token": made.secret})
    with pytest.raises(NotFound):
        ask("revoke_token", "nobody")


@pytest.mark.parametrize("verb", ["workflows", "stream", "follow_logs"])
@pytest.mark.parametrize("token", [None, "wrong"])
def test_nothing_is_told_without_a_token(either: Either, served: ApiWorld, verb: str, token: str | None) -> None:
    options = {} if token is None else {"token": served.secrets[token]}
    go = either.ask if verb == "workflows" else either.take
    named = {"instance_id": "i"} if verb == "follow_logs" else {}
    with pytest.raises(NotAllowed, match="scope `read`") as caught:
        go(f"http://127.0.0.1:{served.port}", verb, options=options, **named)
    assert served.secrets["wrong"] not in str(caught.value)


def test_a_token_that_allows_less_is_told_so(either: Either, served: ApiWorld) -> None:
    with pytest.raises(NotAllowed, match="scope `operate`"):
        Asker(either, served, "read")("execute", "顺序")


@pytest.mark.parametrize("verb", ["stream", "follow_logs"])
def test_a_stream_of_nothing_is_refused(ask: Asker, verb: str) -> None:
    with pytest.raises(NotFound, match="no instance 'nobody'"):
        ask.take(verb, "nobody")


ARGUMENTS: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("upload", "validate", "workflow", "versions", "delete_workflow", "export", "graph"), ("x",)),
    **dict.fromkeys(("execute", "instance", "detail", "tasks", "history", "pause", "resume", "cancel"), ("x",)),
    **dict.fromkeys(("retry", "logs", "events", "explain", "revoke_token"), ("x",)),
    "task": ("x", "y"),
    "fork": ("x", "y"),
    "add_tasks": ("x", []),
    "signal": ("x", "y"),
    "create_token": ("x", "read"),
}


@pytest.mark.parametrize("verb", [name for name in verbs.__all__ if name != "is_final"])
def test_a_verb_knows_its_route_and_what_the_route_wants(served: ApiWorld, verb: str) -> None:
    call: Call[Any] = next(getattr(verbs, verb)(*ARGUMENTS.get(verb, ())))
    scopes = _scopes(served)
    fitting = [scope for (method, path), scope in scopes.items() if method == call.method and _fits(path, call.path)]
    assert fitting == [call.scope]


def _scopes(world: ApiWorld) -> dict[tuple[str, str], str]:
    return {
        (method, route.path_format): handler.opt.get("scope", "")
        for route in world.app.routes
        for handler in getattr(route, "route_handlers", [])
        for method in getattr(handler, "http_methods", [])
    }


def _fits(template: str, path: str) -> bool:
    """Whether the path is one of the template's; a template without a hole goes before one with it."""
    wanted, given = template.split("/"), path.split("/")
    if "rotate-local" in given and "rotate-local" not in wanted:
        return False
    pairs = zip(wanted, given, strict=False)
    return len(wanted) == len(given) and all(each.startswith("{") or each == other for each, other in pairs)
