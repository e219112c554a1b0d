"""The last step of the demo: JSON on standard input becomes a report on standard output."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any
from unicodedata import east_asian_width

HEADINGS = ("code", "name", "rows", "high", "close", "turnover (CNY)")


def report(facts: Mapping[str, Any]) -> str:
    """facts  `calendar`, `stocks`, `summaries` (CSV lines code,rows,high,close,turnover), `dropped`, `months`
    (CSV lines month,turnover), `cny`, `usd`
    """
    names = {stock["code"]: stock["name"] for stock in facts["stocks"]}
    rows = [_row(line.strip().split(","), names) for line in facts["summaries"]]
    days = facts["calendar"]["days"]
    months = [line.split(",") for line in facts["months"].splitlines()]
    lines = [
        f"行情日报  {days[0]} to {days[-1]}, {len(days)} trading days",
        "",
        *_table([HEADINGS, *rows]),
        "",
        *(f"{month}  {float(turnover):20,.2f} CNY" for month, turnover in months),
        "",
        f"{sum(int(row[2]) for row in rows)} quotes kept, {facts['dropped']} dropped",
        f"持仓 {facts['cny']:,.2f} CNY = {facts['usd']:,.2f} USD",
    ]
    return "".join(f"{line}\n" for line in lines)


def _row(fields: Sequence[str], names: Mapping[str, str]) -> Sequence[str]:
    code, rows, high, close, turnover = fields
    return code, names[code], rows, high, close, f"{float(turnover):,.2f}"


def _table(rows: Sequence[Sequence[str]]) -> Sequence[str]:
    widths = [max(_width(row[column]) for row in rows) for column in range(len(HEADINGS))]
    return ["  ".join(_cell(row, column, widths) for column in range(len(HEADINGS))).rstrip() for row in rows]


def _cell(row: Sequence[str], column: int, widths: Sequence[int]) -> str:
    gap = " " * (widths[column] - _width(row[column]))
    return row[column] + gap if column < 2 else gap + row[column]


def _width(text: str) -> int:
    """Columns on a terminal: a Chinese character takes two."""
    return sum(2 if east_asian_width(char) in "WF" else 1 for char in text)


if __name__ == "__main__":
    sys.stdout.buffer.write(report(json.load(sys.stdin.buffer)).encode())
