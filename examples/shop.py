"""An order that undoes itself: create, reserve, debit, ship; shipping fails, and nothing of it is left.

    python examples/shop.py                  # no car: everything is undone, the last step first
    python examples/shop.py --cars 1         # it goes through

The shop is a small SQLite file of its own. Each step and its undoing is one transaction that may run twice: it is told
by the task's idempotency key, which is the same for every attempt.
"""

import argparse
import asyncio
import sqlite3
import tempfile
from pathlib import Path

from taskengine import EngineBuilder, SyncTaskContext, TaskBuilder, WorkflowBuilder, job

SCHEMA = """
CREATE TABLE IF NOT EXISTS stock (item TEXT PRIMARY KEY, count INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS accounts (owner TEXT PRIMARY KEY, balance INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS orders (id TEXT PRIMARY KEY, item TEXT NOT NULL, owner TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS done (step TEXT PRIMARY KEY);
"""


class Shop:
    """The file, and `once`: a change that is made at most once under its name."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with self.open() as db:
            db.executescript(SCHEMA)
            db.execute("INSERT OR IGNORE INTO stock VALUES ('茶', 3)")
            db.execute("INSERT OR IGNORE INTO accounts VALUES ('Ada', 100)")

    def open(self) -> sqlite3.Connection:
        return sqlite3.connect(self.path, timeout=10)

    def once(self, step: str, sql: str, *values: object) -> None:
        with self.open() as db:
            if db.execute("INSERT OR IGNORE INTO done VALUES (?)", (step,)).rowcount:
                db.execute(sql, values)

    def figures(self) -> dict[str, int]:
        """Orders, stock and balance as they are."""
        questions = {
            "orders": "SELECT count(*) FROM orders",
            "stock": "SELECT count FROM stock WHERE item = '茶'",
            "balance": "SELECT balance FROM accounts WHERE owner = 'Ada'",
        }
        with self.open() as db:
            return {name: db.execute(sql).fetchone()[0] for name, sql in questions.items()}


@job
def create_order(ctx: SyncTaskContext, shop: Shop, item: str, owner: str) -> str:
    shop.once(ctx.idempotency_key, "INSERT INTO orders VALUES (?, ?, ?)", ctx.instance_id, item, owner)
    return ctx.instance_id


@job
def drop_order(ctx: SyncTaskContext, shop: Shop, result: str) -> None:
    shop.once(f"undo {ctx.idempotency_key}", "DELETE FROM orders WHERE id = ?", result)


@job
def reserve_stock(ctx: SyncTaskContext, shop: Shop, item: str) -> None:
    shop.once(ctx.idempotency_key, "UPDATE stock SET count = count - 1 WHERE item = ?", item)


@job
def release_stock(ctx: SyncTaskContext, shop: Shop, item: str) -> None:
    shop.once(f"undo {ctx.idempotency_key}", "UPDATE stock SET count = count + 1 WHERE item = ?", item)


@job
def debit(ctx: SyncTaskContext, shop: Shop, owner: str, amount: int) -> None:
    shop.once(ctx.idempotency_key, "UPDATE accounts SET balance = balance - ? WHERE owner = ?", amount, owner)


@job
def refund(ctx: SyncTaskContext, shop: Shop, owner: str, amount: int) -> None:
    shop.once(f"undo {ctx.idempotency_key}", "UPDATE accounts SET balance = balance + ? WHERE owner = ?", amount, owner)


@job
def ship(cars: int) -> str:
    if not cars:
        raise ValueError("there is no car")
    return "on its way"


ORDER = (
    WorkflowBuilder("order")
    .with_params({"cars": 0})
    .with_task(
        TaskBuilder("create")
        .with_job_function(create_order, {"item": "茶", "owner": "Ada"})
        .with_compensation(drop_order),
        TaskBuilder("reserve")
        .with_job_function(reserve_stock, {"item": "茶"})
        .with_compensation(release_stock)
        .with_dependency("create"),
        TaskBuilder("debit")
        .with_job_function(debit, {"owner": "Ada", "amount": 30})
        .with_compensation(refund, retry=5)
        .with_dependency("reserve"),
        TaskBuilder("ship").with_job_function(ship, {"cars": "${{ params.cars }}"}).with_dependency("debit"),
    )
    .build()
)


async def main(cars: int, folder: Path) -> None:
    shop = Shop(folder / "shop.db")
    print("before", shop.figures())
    builder = EngineBuilder().with_store(str(folder / "engine.db")).with_app(__file__).with_service(Shop, shop)
    async with builder.build() as engine:
        instance = await engine.execute_workflow(ORDER, {"cars": cars})
        done = await engine.wait_for_instance(instance)
        print("after ", shop.figures())
        print(done.status, done.error)
        for task in await engine.get_tasks(instance):
            print(f"  {task.name:<8} {task.status}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cars", type=int, default=0)
    with tempfile.TemporaryDirectory() as made:
        asyncio.run(main(parser.parse_args().cars, Path(made)))
