"""The pure planner of one instance: decide, save, then tell.

`decide(plan, message, now_us)` moves memory; `plan.cut(now_us)` gives the decision to commit and the effects that
wait for it. Nothing here reads the time, makes an id, touches a database or sees a result.
"""

from taskengine.engine.planner.answers import Answer
from taskengine.engine.planner.decision import decide
from taskengine.engine.planner.effects import (
    Arm,
    ArmDeadline,
    ChildOrder,
    Decline,
    Effect,
    Ended,
    Interrupt,
    Launch,
    Offer,
    Reply,
    StartChild,
    TellChild,
)
from taskengine.engine.planner.plan import Plan
from taskengine.engine.planner.shape import Shape

__all__ = [
    "Answer",
    "Arm",
    "ArmDeadline",
    "ChildOrder",
    "Decline",
    "Effect",
    "Ended",
    "Interrupt",
    "Launch",
    "Offer",
    "Plan",
    "Reply",
    "Shape",
    "StartChild",
    "TellChild",
    "decide",
]
