"""The demo: its market never changes, its service is busy once, and its report is right to the last digit."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from examples.demo.exchange import running_exchange
from examples.demo.market import HOLDINGS, STOCKS, holdings_csv, quotes_csv, trading_days
from taskengine.definition import read_file

ROOT = Path(__file__).parents[2]

REPORT = """\
行情日报  2024-01-02 to 2024-03-29, 58 trading days

code    name      rows     high    close    turnover (CNY)
600519  贵州茅台    55  1902.51  1787.84  6,087,370,905.16
000858  五粮液      54   141.14   114.35    409,485,462.64
600036  招商银行    53    33.15    31.84    102,375,570.86
000001  平安银行    54    10.06     9.03     27,153,208.30
300750  宁德时代    57   171.10   152.27    510,047,320.58
002594  比亚迪      55   203.69   197.63    646,310,350.13

2024-01      3,124,806,847.23 CNY
2024-02      2,011,888,694.75 CNY
2024-03      2,646,047,275.69 CNY

328 quotes kept, 27 dropped
持仓 781,495.00 CNY = 110,069.72 USD
"""

Quote = tuple[str, str, Decimal, int]


def good_quotes() -> Iterator[Quote]:
    """Date, code, close and volume of every quote that may be kept, by another road than the workflow's."""
    for stock in STOCKS:
        lines = dict.fromkeys(quotes_csv(stock).splitlines()[1:])
        for day, code, _, _, _, close, volume in (line.split(",") for line in lines):
            if close != "N/A" and int(volume):
                yield day, code, Decimal(close), int(volume)


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    with running_exchange() as base:
        yield base


def test_the_report_agrees_with_the_market() -> None:
    quotes = list(good_quotes())
    raw = sum(len(quotes_csv(stock).splitlines()) - 1 for stock in STOCKS)
    assert f"{len(quotes)} quotes kept, {raw - len(quotes)} dropped" in REPORT
    for stock in STOCKS:
        turnover = sum(close * volume for _, code, close, volume in quotes if code == stock.code)
        assert f"{turnover:,.2f}" in REPORT
    for month in ("2024-01", "2024-02", "2024-03"):
        turnover = sum(close * volume for day, _, close, volume in quotes if day.startswith(month))
        assert f"{month}  {turnover:20,.2f} CNY" in REPORT
    last = {code: close for _, code, close, _ in quotes}
    value = sum(last[code] * shares for code, shares in HOLDINGS.items())
    assert f"持仓 {value:,.2f} CNY = {value / Decimal('7.1'):,.2f} USD" in REPORT


def test_the_market_has_every_fault_that_the_workflow_removes() -> None:
    lines = [line for stock in STOCKS for line in quotes_csv(stock).splitlines()[1:]]
    assert sum(",N/A," in line for line in lines) == 9
    assert sum(line.endswith(",0") for line in lines) == 13
    assert len(lines) - len(set(lines)) == 7
    assert len(lines) == 6 * len(trading_days()) + 7
    assert holdings_csv().splitlines()[0] == "code,shares"


def test_the_service_is_busy_once_and_says_when_to_come_again(service: str) -> None:
    first, second = (httpx.get(f"{service}/rate/USDCNY", timeout=10) for _ in range(2))
    assert (first.status_code, first.headers["retry-after"]) == (503, "2")
    assert (second.status_code, second.json()) == (200, {"pair": "USDCNY", "rate": 7.1})


def test_the_service_answers_with_the_market(service: str) -> None:
    assert httpx.get(f"{service}/quotes/000001", timeout=10).text == quotes_csv(STOCKS[3])
    assert [stock["name"] for stock in httpx.get(f"{service}/stocks", timeout=10).json()] == [s.name for s in STOCKS]
    assert httpx.get(f"{service}/quotes/999999", timeout=10).status_code == 404


def test_the_workflow_is_a_graph_worth_watching() -> None:
    definition = read_file(ROOT / "examples/demo/quotes.yaml")
    assert len(definition.tasks) == 35
    assert {task.job for task in definition.tasks} == {"http_request", "shell_command", "transform", "log"}
    assert definition.title == "每日行情"


@pytest.fixture
def demo() -> Callable[..., "subprocess.CompletedProcess[str]"]:
    def run(*options: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "examples.demo", *options],
            cwd=ROOT,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=90,
            check=False,
        )

    return run


def ends(stderr: str) -> dict[str, str]:
    """How each task ended, from the table after the last line that begins with `Instance`."""
    table = stderr[stderr.rindex("\nInstance ") :]
    return dict(re.findall(r"^ +\S (\w+) +(\w+)", table, re.MULTILINE))


def test_the_demo_ends_with_exactly_this_report(demo: Callable[..., "subprocess.CompletedProcess[str]"]) -> None:
    process = demo()
    assert process.returncode == 0, process.stderr
    assert process.stdout == f"\n{REPORT}"
    names = [task.name for task in read_file(ROOT / "examples/demo/quotes.yaml").tasks]
    assert ends(process.stderr) == {name: "Skipped" if name == "alarm" else "Success" for name in names}
    live = process.stderr[: process.stderr.rindex("\nInstance ")]
    assert re.search(r"rate +Retrying", live)
    assert all(f" {name} " in live for name in names)


def test_options_reach_the_run_and_wake_the_alarm(demo: Callable[..., "subprocess.CompletedProcess[str]"]) -> None:
    process = demo("-p", "dropped_limit=5")
    assert process.returncode == 0, process.stderr
    assert ends(process.stderr)["alarm"] == "Success"
