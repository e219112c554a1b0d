# examples/hello.py
import asyncio

from taskengine import EngineBuilder, TaskBuilder, WorkflowBuilder


async def greet(who: str) -> str:
    return f"Hello, {who}!"


async def main() -> None:
    hello = WorkflowBuilder("hello").with_task(TaskBuilder("greet").with_job_function("greet", {"who": "世界"}).build())
    async with EngineBuilder().with_job_func("greet", greet).build() as engine:
        instance = await engine.wait_for_instance(await engine.execute_workflow(hello.build()))
        print(instance.status, [task.result for task in await engine.get_tasks(instance.id)])


asyncio.run(main())
