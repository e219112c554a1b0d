"""This machine's own stores: the folders of runs, looking into them, and running an engine in this process."""

__all__: list[str] = []
