"""Workers as real processes, which have nothing but a control channel."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from talkpath.agent.config import Config, SipConfig
from talkpath.agent.errors import ConfigError, TalkpathError
from talkpath.transports.sip.supervisor import Supervisor
from talkpath.transports.sip.worker_process import Timing, Worker

CHILD = (sys.executable, str(Path(__file__).with_name("worker_child.py")))
QUICK = Timing(backoff_s=0.01, ping_s=0.05, exit_s=10, start_s=60)


class Listener:
    """What a listener does with workers, and what it heard of them."""

    def __init__(self, timing: Timing = QUICK, **settings: Any) -> None:
        self.dead: list[Worker] = []
        self.buried = asyncio.Event()
        self.supervisor = Supervisor(
            Config(sip=SipConfig(port=0, **settings)),
            ["echo"],
            handlers={"ended": self._ended},
            on_death=self._died,
            setup={"address": "127.0.0.1:5060"},
            command=CHILD,
            timing=timing,
        )

    async def _ended(self, worker: Worker, call_id: str) -> None:
        worker.remove(call_id)

    async def _died(self, worker: Worker) -> None:
        self.dead.append(worker)
        self.buried.set()


@asynccontextmanager
async def listening(timing: Timing = QUICK, **settings: Any) -> AsyncIterator[Listener]:
    listener = Listener(timing, **settings)
    try:
        yield listener
    finally:
        workers = listener.supervisor.workers
        await listener.supervisor.stop()
        for worker in workers:
            assert not psutil.pid_exists(worker.pid) or not worker.pid


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - another process does it
            await asyncio.sleep(0.01)


def ready(supervisor: Supervisor) -> list[Worker]:
    return [worker for worker in supervisor.workers if worker.state == "ready"]


async def test_one_worker_takes_all_calls_and_is_asked_and_told() -> None:
    async with listening() as listener:
        supervisor = listener.supervisor
        await supervisor.start()
        worker = supervisor.pick()
        assert worker is not None
        assert (worker.port, worker.users) == (40000, {"main": "echo"})
        assert (await worker.channel.ask("metrics"))["pid"] == worker.pid
        for number in range(20):
            worker.add(str(number))
        assert supervisor.pick() is worker
        assert len(supervisor.workers) == 1
        await worker.channel.tell("load", calls=100)
        await until(lambda: worker.calls == 100)
        assert supervisor.pick() is None  # as many as sip.max_calls


async def test_there_is_always_room_for_the_calls_of_one_worker_more() -> None:
    async with listening(calls_per_worker=2, max_calls=5) as listener:
        supervisor = listener.supervisor
        await supervisor.start()
        assert len(supervisor.workers) == 1
        first = supervisor.pick()
        assert first is not None
        first.add("a")
        await until(lambda: len(ready(supervisor)) == 2)
        second = supervisor.pick()
        assert second is not None and second is not first
        second.add("b")
        first.add("c")
        await until(lambda: len(ready(supervisor)) == 3)
        for call_id in "defghi":
            if (worker := supervisor.pick()) is not None:
                worker.add(call_id)
        assert len(supervisor.workers) == 3  # sip.max_calls fit into these
        assert supervisor.pick() is None
        assert sorted(worker.calls for worker in supervisor.workers) == [2, 2, 2]


async def test_calls_wait_for_workers_that_are_being_started_and_come_in_turn() -> None:
    async with listening(calls_per_worker=1, max_calls=4, workers=2) as listener:
        supervisor = listener.supervisor
        await supervisor.start()
        assert len(supervisor.workers) <= 2 and supervisor.takes_calls
        await until(lambda: len(ready(supervisor)) == 2)
        seated = [supervisor.take(call_id) for call_id in "ab"]
        assert len({worker.id for worker in seated if worker is not None}) == 2
        assert supervisor.take("c") is None
        given_up = asyncio.create_task(supervisor.wait("c"))
        waiting = [asyncio.create_task(supervisor.wait(call_id)) for call_id in "de"]
        await asyncio.sleep(0)
        assert supervisor.take("f") is None  # it would overtake
        given_up.cancel()
        seated += await asyncio.wait_for(asyncio.gather(*waiting), 30)
        assert [set(worker.call_ids) for worker in seated if worker] == [{c} for c in "abde"]
        assert not supervisor.takes_calls  # sip.max_calls
        last = asyncio.create_task(supervisor.wait("g"))
        await asyncio.sleep(0)
        assert not last.done()
        seated[1].remove("b")
        assert await asyncio.wait_for(last, 10) is seated[1]
        nobody = asyncio.create_task(supervisor.wait("h"))
        await asyncio.sleep(0)
        draining = asyncio.create_task(supervisor.drain(0.05))
        assert await asyncio.wait_for(nobody, 10) is None
        assert await supervisor.wait("i") is None
        await draining


async def test_idle_workers_end_but_for_those_that_are_needed_or_asked_for() -> None:
    timing = Timing(idle_s=0.1, ping_s=0.05, exit_s=10)
    async with listening(timing, calls_per_worker=1, max_calls=6, workers=2) as listener:
        supervisor = listener.supervisor
        await supervisor.start()
        workers = [supervisor.take("a"), await supervisor.wait("b"), await supervisor.wait("c")]
        await until(lambda: len(ready(supervisor)) == 4)
        for worker, call_id in zip(workers[:2], "ab", strict=True):
            assert worker is not None
            worker.remove(call_id)
        await until(lambda: len(supervisor.workers) == 2)
        third = workers[2]
        assert third is not None and third.state == "ready" and third.call_ids == {"c"}
        third.remove("c")
        # It was one too many as long as it had a call; now one of the others may be the spare.
        await asyncio.sleep(5 * timing.idle_s)
        assert len(ready(supervisor)) == 2  # sip.workers
        assert listener.dead == []  # nobody has died
        assert 'calls_total{kind="a"} 6\n' in supervisor.past_figures
        assert "depth" not in supervisor.past_figures
        # And when they are needed again, they come again.
        for call_id in "defg":
            assert supervisor.take(call_id) or await supervisor.wait(call_id)


async def test_calls_go_to_workers_that_stay_so_that_others_run_out_of_them() -> None:
    async with listening(calls_per_worker=2, max_calls=8, workers=1) as listener:
        supervisor = listener.supervisor
        await supervisor.start()
        for call_id in "abcd":
            assert supervisor.take(call_id) or await supervisor.wait(call_id)
        await until(lambda: len(ready(supervisor)) == 3)
        first, second, _ = supervisor.workers
        for call_id in first.call_ids | second.call_ids:
            for worker in (first, second):
                worker.remove(call_id)
        # Of three idle workers two are needed: one call more, and one spare.
        taken = [supervisor.take(call_id) for call_id in "efg"]
        assert {worker.id for worker in taken if worker} == {first.id, second.id}


async def test_a_call_waits_no_longer_than_callers_do(monkeypatch: pytest.MonkeyPatch) -> None:
    timing = Timing(wait_s=0.05, exit_s=10)
    async with listening(timing, max_calls=1) as listener:
        await listener.supervisor.start()
        assert listener.supervisor.take("a")
        assert await listener.supervisor.wait("b") is None


async def test_a_killed_worker_is_told_of_and_replaced_while_others_live() -> None:
    async with listening(calls_per_worker=1, max_calls=2) as listener:
        supervisor = listener.supervisor
        await supervisor.start()
        first = supervisor.pick()
        assert first is not None
        first.add("a")
        await until(lambda: len(ready(supervisor)) == 2)
        second = supervisor.pick()
        assert second is not None
        second.add("b")
        os.kill(first.pid, signal.SIGKILL)
        await asyncio.wait_for(listener.buried.wait(), 10)
        assert listener.dead == [first]
        assert first.state == "dead"
        assert set(first.call_ids) == {"a"}
        await until(lambda: len(ready(supervisor)) == 2)
        replacement = supervisor.pick()
        assert replacement not in (None, first, second)
        assert second.state == "ready"
        assert await second.channel.ask("metrics")


async def test_a_worker_that_does_not_answer_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANNER", "deaf")
    timing = Timing(backoff_s=30, ping_s=0.05, answer_s=0.2)
    async with listening(timing) as listener:
        await listener.supervisor.start()
        (worker,) = listener.supervisor.workers
        await asyncio.wait_for(listener.buried.wait(), 20)
        assert not psutil.pid_exists(worker.pid)
        assert listener.supervisor.pick() is None


async def test_a_worker_that_says_why_it_cannot_start_ends_the_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MANNER", "refuse")
    async with listening() as listener:
        with pytest.raises(ConfigError, match="there is no bot 'nobody'"):
            await listener.supervisor.start()


async def test_workers_that_die_at_once_end_the_start_after_a_few_attempts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MANNER", "crash")
    async with listening() as listener:
        with pytest.raises(TalkpathError, match="before they are ready: it exited with code 3"):
            await listener.supervisor.start()
        assert listener.dead == []


async def test_a_worker_that_cannot_be_replaced_is_told_as_a_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MANNER", "once")
    monkeypatch.setenv("ONCE", str(tmp_path / "once"))
    async with listening() as listener:
        await listener.supervisor.start()
        os.kill(listener.supervisor.workers[0].pid, signal.SIGKILL)
        await asyncio.wait_for(listener.supervisor.failed.wait(), 30)
        assert "code 4" in str(listener.supervisor.failure)
        assert len(listener.dead) == 1


async def test_a_command_that_does_not_exist_is_one_clear_error() -> None:
    listener = Listener()
    listener.supervisor._command = ("/nonexistent/python",)
    with pytest.raises(TalkpathError, match="cannot be started"):
        await listener.supervisor.start()
    await listener.supervisor.stop()


async def test_draining_waits_for_calls_and_hangs_up_what_is_left() -> None:
    async with listening() as listener:
        supervisor = listener.supervisor
        await supervisor.start()
        worker = supervisor.pick()
        assert worker is not None
        worker.add("short")
        draining = asyncio.create_task(supervisor.drain(30))
        await until(lambda: not ready(supervisor))
        assert worker.state == "draining"
        assert supervisor.pick() is None
        assert not draining.done()
        worker.remove("short")
        await asyncio.wait_for(draining, 10)

    async with listening() as listener:
        supervisor = listener.supervisor
        await supervisor.start()
        worker = supervisor.workers[0]
        worker.add("endless")
        await supervisor.drain(0.05)
        assert supervisor.calls == 0  # the worker said that it has ended


async def test_a_worker_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    program = tmp_path / "parent.py"
    program.write_text(
        "import asyncio, sys\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_supervisor import Listener\n"
        "async def main():\n"
        "    listener = Listener()\n"
        "    await listener.supervisor.start()\n"
        "    print(listener.supervisor.workers[0].pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, str(program), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    worker = psutil.Process(int(await parent.stdout.readline()))
    parent.kill()
    await parent.wait()

    def ended() -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            return worker.status() == psutil.STATUS_ZOMBIE
        return True

    await until(ended)
