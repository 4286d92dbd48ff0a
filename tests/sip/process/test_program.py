"""``talkpath run BOT --transport sip`` with its HTTP service, and ``talkpath call``."""

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import psutil

from tests.sip.peer import PeerCall, SipPeer
from tests.sip.waiting import SOON_S

TALKPATH = str(Path(sys.executable).with_name("talkpath"))
SETTINGS = {
    "TALKPATH_SIP_PORT": "0",
    "TALKPATH_SERVER_PORT": "0",
    "TALKPATH_SIP_CODECS": "pcmu",
    "TALKPATH_SIP_SRTP": "off",
}
SILENCE = np.zeros(8000, np.int16)


async def _program(*arguments: str, **settings: str) -> Process:
    return await asyncio.create_subprocess_exec(
        TALKPATH, *arguments, stdout=PIPE, stderr=PIPE, env={**os.environ, **SETTINGS, **settings}
    )


async def _found(process: Process, pattern: str) -> str:
    """What the first line of standard output that fits has in its group."""
    assert process.stdout is not None and process.stderr is not None
    async with asyncio.timeout(100):
        while line := (await process.stdout.readline()).decode():
            if found := re.search(pattern, line):
                return found[1]
    raise AssertionError((await process.stderr.read()).decode())


@asynccontextmanager
async def _running(*arguments: str) -> AsyncIterator[tuple[Process, aiohttp.ClientSession, str]]:
    """A telephone, its HTTP service, and the address to call."""
    run = ("run", "loopback", "--transport", "sip", "--host", "127.0.0.1")
    process = await _program(*run, *arguments)
    try:
        service = await _found(process, r"calls and metrics are at (http\S+)$")
        address = await _found(process, r"the telephone is listening at (sip:\S+) \(udp, tcp\)$")
        async with aiohttp.ClientSession(service) as client:
            yield process, client, address.replace("sip:", "sip:bot@")
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def _workers(process: Process) -> list[psutil.Process]:
    return [p for p in psutil.Process(process.pid).children() if "sip_worker" in p.cmdline()[2]]


async def _calls(client: aiohttp.ClientSession) -> dict[str, Any]:
    calls = (await (await client.get("/calls")).json())["calls"]
    return {call["call_id"]: call for call in calls}


async def _with_quality(client: aiohttp.ClientSession, call: PeerCall) -> dict[str, Any]:
    """What is told of a call, with its quality: a worker that is late with it is left out."""
    async with asyncio.timeout(SOON_S):
        while "quality" not in (state := (await _calls(client))[call.call_id]):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return dict(state)


async def _until_ready(client: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(SOON_S):
        while (await client.get("/readyz")).status != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def _call(phone: SipPeer, address: str) -> PeerCall:
    call = await phone.call(address)
    assert call.status == 200
    return call


async def test_the_service_tells_of_calls_makes_them_and_ends_them() -> None:
    async with SipPeer() as phone, SipPeer() as other:
        plan = ("--dial-plan", phone.uri, "--max-calls", "2", "--calls-per-worker", "1")
        async with _running(*plan) as (process, client, address):
            assert (await client.get("/healthz")).status == 200
            assert (await client.get("/readyz")).status == 200
            first = await _call(phone, address)
            await first.media.say(SILENCE)
            state = await _with_quality(client, first)
            assert state["direction"] == "inbound"
            assert (state["bot"], state["number"], state["stage"]) == ("loopback", "bot", "up")
            assert state["quality"]["codec"].startswith("PCMU")

            for wrong in ("[]", "no json", "{}", '{"to": 1}', '{"to": "sip:a@b", "from": "c"}'):
                answer = await client.post("/calls", data=wrong)
                assert answer.status in (400, 422), wrong
                assert (await answer.json())["detail"].endswith(".")
            forbidden = await client.post("/calls", json={"to": other.uri})
            assert forbidden.status == 409
            assert "dial plan" in (await forbidden.json())["detail"]

            await _until_ready(client)  # the spare worker
            made = await client.post("/calls", json={"to": phone.uri, "headers": {"X-Key": "1"}})
            assert made.status == 201
            second = await asyncio.wait_for(phone.incoming.get(), SOON_S)
            assert second.requests[0].headers.get("X-Key") == "1"
            assert second.call_id == (await made.json())["call_id"]
            assert (await _calls(client))[second.call_id]["direction"] == "outbound"
            assert (await phone.call(address)).status == 503

            # A worker dies: its call ends, the other one goes on, and another worker comes.
            state = await _calls(client)
            workers = sorted(_workers(process), key=lambda worker: worker.pid)
            assert state[first.call_id]["worker"] < state[second.call_id]["worker"]
            workers[0].kill()
            await asyncio.wait_for(first.over.wait(), SOON_S)
            assert not second.over.is_set()
            await _until_ready(client)
            third = await _call(phone, address)

            gone = await client.delete(f"/calls/{second.call_id}")
            assert gone.status == 204
            await asyncio.wait_for(second.over.wait(), SOON_S)
            assert (await client.delete("/calls/nobody")).status == 404

            figures = await (await client.get("/metrics")).text()
            assert 'talkpath_calls_total{direction="inbound"} 2' in figures
            assert 'talkpath_calls_total{direction="outbound"} 1' in figures
            assert figures.count("# TYPE talkpath_turns_total ") <= 1  # two workers have it

            # To be stopped is to let calls end, and to take no more of them.
            process.terminate()
            async with asyncio.timeout(SOON_S):
                while (refused := await phone.call(address)).status != 503:
                    await refused.request("BYE")
            assert not third.over.is_set()
            await third.media.say(SILENCE[:1600])
            assert (await third.request("BYE")).status == 200
            assert await asyncio.wait_for(process.wait(), SOON_S) == 0
            assert not any(worker.is_running() for worker in workers)


async def _dialled(to: str, *arguments: str) -> Process:
    return await _program("call", to, "--bot", "loopback", *arguments)


async def _outcome(process: Process) -> tuple[int, list[str], str]:
    out, error = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, out.decode().splitlines(), error.decode()


async def _is_answered() -> None:
    async with SipPeer() as phone:
        process = await _dialled(phone.uri, "--header", "X-Order=17")
        call = await asyncio.wait_for(phone.incoming.get(), 100)
        assert call.requests[0].headers.get("X-Order") == "17"
        await call.media.say(SILENCE)
        await call.request("BYE")
        code, lines, error = await _outcome(process)
        assert (code, "Traceback" in error) == (0, False)
        assert lines[-3] == "answered"
        assert lines[-2].startswith("ended: ")
        assert re.match(r"\d+ s, PCMU/8000, .*% lost, jitter", lines[-1])


async def _is_hung_up_with_ctrl_c() -> None:
    async with SipPeer() as phone:
        process = await _dialled(phone.uri)
        call = await asyncio.wait_for(phone.incoming.get(), 100)
        await _found(process, "(answered)")
        process.send_signal(signal.SIGINT)
        await asyncio.wait_for(call.over.wait(), SOON_S)
        code, lines, error = await _outcome(process)
        assert (code, "Traceback" in error) == (0, False)
        assert lines[0].startswith("ended: ")


async def _is_busy() -> None:
    async with SipPeer() as phone:
        phone.statuses["INVITE"] = 486
        code, lines, error = await _outcome(await _dialled(phone.uri))
        assert (code, lines) == (1, [])
        assert error.splitlines()[-1].startswith("talkpath: not answered: 486")


async def _is_not_answered() -> None:
    async with SipPeer() as phone:
        phone.statuses["INVITE"] = 180
        process = await _dialled(phone.uri, "--no-answer-s", "4")
        call = await asyncio.wait_for(phone.incoming.get(), 100)
        code, lines, error = await _outcome(process)
        assert (code, lines) == (1, ["ringing"])
        assert error.splitlines()[-1] == "talkpath: nobody answered within 4 s"
        await asyncio.wait_for(call.over.wait(), SOON_S)  # CANCEL


async def test_a_call_tells_how_it_went() -> None:
    await asyncio.gather(_is_answered(), _is_hung_up_with_ctrl_c(), _is_busy(), _is_not_answered())
