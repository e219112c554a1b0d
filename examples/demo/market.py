"""The market of the demo: six stocks and three months of daily quotes, the same ones in every run.

The quotes have the faults of real ones: days without trade (volume 0), prices that are missing (`N/A`), repeated lines.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

__all__ = ["HOLDINGS", "STOCKS", "Stock", "holdings_csv", "quotes_csv", "trading_days"]

FIRST_DAY: Final = date(2024, 1, 2)
LAST_DAY: Final = date(2024, 3, 29)
SPRING_FESTIVAL: Final = (date(2024, 2, 9), date(2024, 2, 17))

NO_TRADE, NO_PRICE, REPEATED = 0.03, 0.02, 0.03


@dataclass(frozen=True)
class Stock:
    """price  of the day before the first, in cents, so that no rounding depends on the machine"""

    code: str
    name: str
    industry: str
    price: int


STOCKS: Final = (
    Stock("600519", "贵州茅台", "白酒", 172_600),
    Stock("000858", "五粮液", "白酒", 14_031),
    Stock("600036", "招商银行", "银行", 2_782),
    Stock("000001", "平安银行", "银行", 939),
    Stock("300750", "宁德时代", "电池", 16_326),
    Stock("002594", "比亚迪", "汽车", 19_800),
)
HOLDINGS: Final = {"600519": 100, "600036": 12_000, "300750": 800, "002594": 500}


def trading_days() -> Sequence[date]:
    """The days on which the exchange is open, first to last."""
    span = (FIRST_DAY + timedelta(days=count) for count in range((LAST_DAY - FIRST_DAY).days + 1))
    first_closed, first_open = SPRING_FESTIVAL
    return [day for day in span if day.weekday() < 5 and not first_closed <= day < first_open]


def quotes_csv(stock: Stock) -> str:
    """`date,code,open,high,low,close,volume` with a header, prices in yuan, faults included."""
    lines = ["date,code,open,high,low,close,volume"]
    # Only random() is promised to give the same numbers in every Python version.
    chance = random.Random(int(stock.code)).random
    opening = stock.price
    for day in trading_days():
        close = max(1, round(opening * (1 + (chance() - 0.495) * 0.05)))
        high, low = max(opening, close) + round(chance() * close * 0.01), min(opening, close)
        volume = 0 if chance() < NO_TRADE else round(20_000 + chance() * 80_000)
        shown = "N/A" if chance() < NO_PRICE else _yuan(close)
        line = f"{day},{stock.code},{_yuan(opening)},{_yuan(high)},{_yuan(low)},{shown},{volume}"
        lines += [line, line] if chance() < REPEATED else [line]
        opening = close
    return _text(lines)


def holdings_csv() -> str:
    """`code,shares` with a header."""
    return _text(["code,shares", *(f"{code},{shares}" for code, shares in HOLDINGS.items())])


def _yuan(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02d}"


def _text(lines: Sequence[str]) -> str:
    return "".join(_ended(lines))


def _ended(lines: Sequence[str]) -> Iterator[str]:
    return (f"{line}\n" for line in lines)
