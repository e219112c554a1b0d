"""The gate: one layer in front of everything, closed by default. It knows connections, tokens and limits, no resources.

`gate` stands outside of the router and judges every connection; `guard` stands at each handler and asks what that very
handler object allows. Nothing of an answer leaves the gate unless a guard has let the connection pass.
"""

from taskengine.api.gate.audit import AuditEntry, AuditLog, FileAudit, MemoryAudit
from taskengine.api.gate.hosts import HostRules
from taskengine.api.gate.limits import Limits
from taskengine.api.gate.tokens import Principal, TokenBook

__all__ = ["AuditEntry", "AuditLog", "FileAudit", "HostRules", "Limits", "MemoryAudit", "Principal", "TokenBook"]
