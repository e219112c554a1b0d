"""What pykka 4.5 promises, held against pykka's own thread actors and against ours.

Everything is asked from a thread without a loop, where the blocking forms work. One promise is ours alone to
break, and the last test says so: a tell to an actor that has stopped raises in pykka and is a dead letter here.
"""

import threading

import pykka
import pytest


def stopped(ref):
    return ref.actor_stopped.wait(10)


def test_on_start_comes_before_the_first_message(recorder):
    events = []
    ref = recorder(events)
    ref.tell("one")
    ref.stop(block=True)
    assert events == ["start", "one", "stop"]


def test_messages_of_one_sender_keep_their_order(recorder):
    events = []
    ref = recorder(events)
    for number in range(1000):
        ref.tell(number)
    ref.stop(block=True)
    assert events == ["start", *range(1000), "stop"]


def test_ask_gives_what_on_receive_returns(recorder):
    ref = recorder([])
    assert ref.ask("a", block=True) == ("answer", "a")


def test_ask_without_blocking_gives_a_future(recorder):
    future = recorder([]).ask("a", block=False)
    assert isinstance(future, pykka.Future)
    assert future.get(timeout=10) == ("answer", "a")
    assert future.get(timeout=10) == ("answer", "a")


def test_failing_ask_goes_to_the_asker_and_the_actor_lives_on(recorder):
    events = []
    ref = recorder(events)
    with pytest.raises(KeyError, match="lost"):
        ref.ask(KeyError("lost"), block=True)
    assert ref.is_alive()
    assert ref.ask("next", block=True) == ("answer", "next")
    assert events == ["start", "next"]


def test_failing_tell_ends_the_actor_with_on_failure_and_without_on_stop(recorder):
    events = []
    ref = recorder(events)
    ref.tell(KeyError("lost"))
    assert stopped(ref)
    ref.stop(block=True)
    assert not ref.is_alive()
    assert events == ["start", (KeyError, "'lost'", True)]


def test_stop_comes_after_the_messages_before_it(recorder):
    events, gate = [], threading.Event()
    ref = recorder(events)
    ref.tell(gate)
    ref.tell("before")
    future = ref.stop(block=False)
    assert ref.is_alive()
    gate.set()
    assert future.get(timeout=10) is True
    assert events == ["start", "before", "stop"]


def test_ask_behind_a_stop_is_answered_with_actor_dead(recorder):
    events, gate = [], threading.Event()
    ref = recorder(events)
    ref.tell(gate)
    ref.stop(block=False)
    late, second = ref.ask("late", block=False), ref.stop(block=False)
    gate.set()
    with pytest.raises(pykka.ActorDeadError):
        late.get(timeout=10)
    assert second.get(timeout=10) is True
    assert "late" not in events


def test_tell_behind_a_stop_is_not_handled(recorder):
    events, gate = [], threading.Event()
    ref = recorder(events)
    ref.tell(gate)
    future = ref.stop(block=False)
    ref.tell("late")
    gate.set()
    future.get(timeout=10)
    assert events == ["start", "stop"]


def test_ask_of_a_stopped_actor_raises_actor_dead(recorder):
    ref = recorder([])
    ref.stop(block=True)
    with pytest.raises(pykka.ActorDeadError):
        ref.ask("late", block=True)
    with pytest.raises(pykka.ActorDeadError):
        ref.ask("late", block=False).get(timeout=10)


def test_second_stop_tells_that_it_was_too_late(recorder):
    ref = recorder([])
    assert ref.stop(block=True) is True
    assert ref.stop(block=True) is False
    assert ref.stop(block=False).get(timeout=10) is False


def test_actor_can_stop_itself(recorder):
    events = []
    ref = recorder(events)
    ref.proxy().end().get(timeout=10)
    assert stopped(ref)
    ref.stop(block=True)
    assert events == ["start", "stop"]


def test_failure_in_on_start_ends_the_actor_without_on_failure(recorder):
    events = []
    ref = recorder(events, "start")
    assert stopped(ref)
    ref.stop(block=True)
    assert events == ["start"]


def test_failure_in_on_stop_still_ends_the_actor(recorder):
    events = []
    ref = recorder(events, "stop")
    assert ref.stop(block=True) is True
    assert not ref.is_alive()
    assert events == ["start", "stop"]


def test_constructor_gets_the_arguments_of_start_and_raises_to_the_caller(system):
    class Picky(system.base):
        def __init__(self, first, *, second):
            super().__init__()
            self.pair = (first, second)

    assert system.start(Picky, 1, second=2).proxy().pair.get(timeout=10) == (1, 2)
    with pytest.raises(TypeError):
        system.start(Picky, 1)


def test_arguments_of_start_may_have_any_name(system):
    class Named(system.base):
        def __init__(self, parent, key):
            super().__init__()
            self.pair = (parent, key)

    assert system.start(Named, parent="p", key="k").proxy().pair.get(timeout=10) == ("p", "k")


def test_actor_may_tell_itself_in_its_constructor(system):
    class Eager(system.base):
        def __init__(self):
            super().__init__()
            self.events = []
            self.actor_ref.tell("from the constructor")

        def on_start(self):
            self.events.append("start")

        def on_receive(self, message):
            self.events.append(message)

    assert system.start(Eager).proxy().events.get(timeout=10) == ["start", "from the constructor"]


def test_default_handler_answers_none(system):
    class Plain(system.base):
        pass

    assert system.start(Plain).ask("anything", block=True) is None


def test_ref_knows_its_actor(recorder):
    one, two = recorder([]), recorder([])
    assert one.actor_urn != two.actor_urn
    assert one.actor_urn == one.actor_urn
    assert one.actor_urn.startswith("urn:")
    assert one.actor_class.__name__ in str(one)
    assert one.actor_urn in repr(one)
    assert one.is_alive()
    assert not one.actor_stopped.is_set()


def test_actor_knows_its_ref(system):
    class Mirror(system.base):
        def on_receive(self, message):
            return self.actor_ref, self.actor_urn, self.actor_stopped.is_set()

    ref = system.start(Mirror)
    assert ref.ask("who", block=True) == (ref, ref.actor_urn, False)


def test_ask_times_out(recorder):
    gate = threading.Event()
    ref = recorder([])
    with pytest.raises(pykka.Timeout):
        ref.ask(gate, block=True, timeout=0.01)
    gate.set()
    assert ref.ask("still there", block=True) == ("answer", "still there")


def test_inbox_takes_envelopes(recorder):
    events = []
    ref = recorder(events)
    ref.actor_inbox.put(pykka._envelope.Envelope("enveloped"))
    ref.stop(block=True)
    assert events == ["start", "enveloped", "stop"]
    assert ref.actor_inbox.empty()


class TestProxy:
    def test_method_call_gives_a_future_of_its_result(self, recorder):
        assert recorder([]).proxy().double(21).get(timeout=10) == 42

    def test_failing_method_raises_in_get_and_the_actor_lives_on(self, recorder):
        proxy = recorder([]).proxy()
        with pytest.raises(ValueError, match="no"):
            proxy.fail("no").get(timeout=10)
        assert proxy.double(1).get(timeout=10) == 2

    def test_attribute_can_be_read_and_written(self, recorder):
        proxy = recorder([]).proxy()
        proxy.number = 7
        assert proxy.number.get(timeout=10) == 7

    def test_private_and_unknown_attributes_are_refused(self, recorder):
        proxy = recorder([]).proxy()
        with pytest.raises(AttributeError):
            proxy.nothing_of_that_name  # noqa: B018
        with pytest.raises(AttributeError):
            proxy._fail_in  # noqa: B018

    def test_deferred_call_that_fails_ends_the_actor(self, recorder):
        events = []
        ref = recorder(events)
        ref.proxy().fail.defer("no")
        assert stopped(ref)
        ref.stop(block=True)
        assert events == ["start", (ValueError, "no", True)]

    def test_traversable_attributes_are_proxies_themselves(self, system):
        class Part:
            def __init__(self):
                self.size = 1

            def grow(self):
                self.size += 1
                return self.size

        class Owner(system.base):
            def __init__(self):
                super().__init__()
                self.part = pykka.traversable(Part())

        proxy = system.start(Owner).proxy()
        assert proxy.part.grow().get(timeout=10) == 2
        proxy.part.size = 10
        assert proxy.part.size.get(timeout=10) == 10

    def test_proxy_of_a_stopped_actor_is_refused(self, recorder):
        ref = recorder([])
        ref.stop(block=True)
        with pytest.raises(pykka.ActorDeadError):
            ref.proxy()


class TestFuture:
    def test_map_filter_reduce_and_join_take_the_result_further(self, recorder):
        proxy = recorder([1, 2, 3, 4]).proxy()
        double = proxy.double(21)
        events = proxy.events
        assert double.map(str).get(timeout=10) == "42"
        assert events.filter(lambda item: isinstance(item, int) and item > 2).get(timeout=10) == [3, 4]
        assert double.join(proxy.double(1), proxy.double(2)).get(timeout=10) == [42, 2, 4]
        assert proxy.double(3).map(range).reduce(lambda a, b: a + b, 100).get(timeout=10) == 115

    def test_failure_passes_through_map(self, recorder):
        mapped = recorder([]).proxy().fail("no").map(str)
        with pytest.raises(ValueError, match="no"):
            mapped.get(timeout=10)

    def test_function_of_map_runs_once(self, recorder):
        calls = []
        mapped = recorder([]).proxy().double(1).map(calls.append)
        mapped.get(timeout=10)
        mapped.get(timeout=10)
        assert calls == [2]

    def test_get_all_collects(self, recorder):
        proxy = recorder([]).proxy()
        assert pykka.get_all([proxy.double(n) for n in range(3)], timeout=10) == [0, 2, 4]


def test_tell_to_a_stopped_actor_raises_in_pykka_and_is_a_dead_letter_here(system, recorder):
    ref = recorder([])
    ref.stop(block=True)
    if system.base is pykka.ThreadingActor:
        with pytest.raises(pykka.ActorDeadError):
            ref.tell("late")
    else:
        ref.tell("late")
        system.settle()
        assert [letter.message for letter in ref.dispatcher.dead_letters.last()] == ["late"]
