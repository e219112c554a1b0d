"""Clients of a taskengine server: `Client` blocks, `AsyncClient` does not, both have the same verbs.

Every request is described once, in `verbs`; what to do with answers, faults and cut streams is decided once, in
`asking` and `following`; two transports perform it. httpx and websockets are imported with the first connection.
"""

from taskengine.client.asynchronous import AsyncClient, AsyncWatch
from taskengine.client.blocking import Client, Watch, connect
from taskengine.client.following import OnState
from taskengine.client.pace import Pace, Patience
from taskengine.client.target import Target, find_target

__all__ = [
    "AsyncClient",
    "AsyncWatch",
    "Client",
    "OnState",
    "Pace",
    "Patience",
    "Target",
    "Watch",
    "connect",
    "find_target",
]
