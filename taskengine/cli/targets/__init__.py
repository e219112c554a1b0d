"""Who a command asks: a server, or the stores of this machine. Both answer with the bodies of `taskengine.wire`."""

__all__: list[str] = []
