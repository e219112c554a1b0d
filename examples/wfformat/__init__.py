"""Runs recorded scientific workflows (WfFormat, github.com/wfcommons/WfFormat) as graphs of timed tasks."""
