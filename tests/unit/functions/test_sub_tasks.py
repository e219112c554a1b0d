"""functions/sub_tasks.py: a sub-task as a body sees it."""

import pytest

from taskengine.functions.sub_tasks import SubTask
from taskengine.model.states import TASK_BAD, TaskState


@pytest.mark.parametrize("state", TaskState)
def test_a_sub_task_has_failed_where_the_engine_says_so(state: TaskState) -> None:
    assert SubTask(name="a", ordinal=1, status=state.value).failed == (state in TASK_BAD)
