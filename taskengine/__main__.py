"""`python -m taskengine`: the command line."""

from taskengine.cli.root import run

if __name__ == "__main__":
    run()
