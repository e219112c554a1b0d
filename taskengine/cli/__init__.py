"""The command line. Importing it is cheap; what a command needs is imported when the command runs.

`taskengine.cli.root` has the entry points.
"""

__all__: list[str] = []
