"""Who may bring a call, and what a carrier is told that asks."""

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode
from xml.etree import ElementTree

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from yarl import URL

from talkpath.agent.config import CarriersConfig
from talkpath.transports.sessions import Limits
from tests.transports.carrier_peer import CARRIERS, CONNECTED, TWILIO_START
from tests.transports.stage import StageBot, served

TOKEN = "a-token-of-these-tests"
LET_IN = CarriersConfig(token=TOKEN)
AUTH_TOKEN = "12345"
ASKING = ("twilio", "telnyx", "plivo", "exotel", "vonage")
BASIC = base64.b64encode(f"talkpath:{TOKEN}".encode()).decode()


def signature(url: str, form: Mapping[str, str]) -> str:
    """What Twilio sends: its documentation's recipe, step by step."""
    text = url
    for name in sorted(form):
        text += name + form[name]
    digest = hmac.new(AUTH_TOKEN.encode(), text.encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()


@dataclass(frozen=True)
class Answer:
    """What the server says over HTTP."""

    status: int
    text: str

    @property
    def detail(self) -> str:
        return str(json.loads(self.text)["detail"])


async def ask(
    url: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
) -> Answer:
    """Ask as a carrier does: with POST if there is a body."""
    async with (
        aiohttp.ClientSession() as session,
        session.request(
            "GET" if body is None else "POST", URL(url, encoded=True), data=body, headers=headers
        ) as answer,
    ):
        return Answer(answer.status, await answer.text())


FORM = {"Content-Type": "application/x-www-form-urlencoded"}


def socket_url(carrier: str, answer: Answer) -> str:
    """The WebSocket that an answer names."""
    if carrier == "exotel":
        return str(json.loads(answer.text)["url"])
    if carrier == "vonage":
        (connection,) = json.loads(answer.text)
        (endpoint,) = connection["endpoint"]
        assert (connection["action"], endpoint["type"]) == ("connect", "websocket")
        return str(endpoint["uri"])
    stream = next(ElementTree.fromstring(answer.text).iter("Stream"))
    return str(stream.get("url") or stream.text)


async def status_of(url: str, headers: Mapping[str, str] | None = None) -> int:
    """HTTP's answer to a WebSocket's handshake."""
    try:
        async with connect(url, additional_headers=headers):
            return 101
    except InvalidStatus as refusal:
        return refusal.response.status_code


@pytest.mark.parametrize("carrier", ASKING)
async def test_the_answer_names_a_socket_on_the_host_that_was_called_good_for_one_call(
    carrier: str,
) -> None:
    bot = StageBot()
    form = {
        **dict.fromkeys(("From", "CallFrom", "from"), "+4930111"),
        **dict.fromkeys(("To", "CallTo", "to"), "+4930222"),
    }
    async with served(bot, carriers=LET_IN) as url:
        asked = f"{url}/{carrier}?token={TOKEN}&campaign=8&colour=blue"
        answer = await ask(asked, FORM, urlencode(form).encode())
        assert answer.status == 200
        assert TOKEN not in answer.text
        address = socket_url(carrier, answer)
        assert re.fullmatch(f"{url.replace('http', 'ws')}/{carrier}/[A-Za-z0-9_-]{{43}}", address)
        other = "plivo" if carrier == "twilio" else "twilio"
        assert await status_of(address.replace(f"/{carrier}/", f"/{other}/")) == 403
        async with connect(address) as socket:
            for message in CARRIERS[carrier].opening:
                await socket.send(json.dumps(message))
            body = (await bot.scene()).arguments.body
            assert (body["from"], body["to"]) == ("+4930111", "+4930222")
            # What the call's own message says counts more.
            assert body["parameters"] == {"campaign": "7", "colour": "blue"}
        assert await status_of(address) == 403


async def test_only_who_shows_the_token_is_let_in() -> None:
    shown: list[tuple[str, dict[str, str], int]] = [
        ("", {}, 403),
        ("?token=", {}, 403),
        ("?token=another-token-than-ours", {}, 403),
        ("", {"Authorization": "Basic %%%"}, 403),
        ("", {"Authorization": f"Digest {TOKEN}"}, 403),
        ("", {"X-Twilio-Signature": "AAAA"}, 403),
        (f"?token={TOKEN}", {}, 200),
        ("", {"Authorization": f"Bearer {TOKEN}"}, 200),
        ("", {"Authorization": f"Basic {BASIC}"}, 200),
        ("", {"X-API-KEY": TOKEN}, 200),
    ]
    async with served(StageBot(), max_sessions=8, carriers=LET_IN) as url:
        for query, headers, status in shown:
            answer = await ask(f"{url}/twilio{query}", headers)
            assert answer.status == status, (query, headers)
            if status == 403:
                assert "neither the token" in answer.detail
            address = f"{url.replace('http', 'ws')}/genesys{query}"
            assert await status_of(address, headers) == (101 if status == 200 else 403)


async def test_without_a_token_nobody_is_let_in() -> None:
    async with served(StageBot()) as url:
        for carrier in ASKING:
            answer = await ask(f"{url}/{carrier}?token=", body=b"")
            assert answer.status == 403
            assert "set carriers.token" in answer.detail
        for carrier in CARRIERS:
            address = f"{url.replace('http', 'ws')}/{carrier}"
            assert await status_of(address, {"X-API-KEY": ""}) == 403
            assert await status_of(f"{address}/no-ticket") == 403


async def test_twilio_is_let_in_by_its_signature_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", AUTH_TOKEN)
    form = {"CallSid": "CA1", "From": "+4930111", "To": "+4930222", "Caller Name": "Ada & Bo"}
    bot = StageBot()
    async with served(bot) as url:

        async def signed(signature: str, sent: dict[str, str], proto: str = "") -> Answer:
            headers = {"X-Twilio-Signature": signature, "X-Forwarded-Proto": proto, **FORM}
            return await ask(f"{url}/twilio?campaign=8", headers, urlencode(sent).encode())

        right = signature(f"{url}/twilio?campaign=8", form)
        assert (await signed(right, form)).status == 200
        assert (await signed(right, {**form, "From": "+1900"})).status == 403
        assert (await signed(signature(f"{url}/twilio", form), form)).status == 403
        # A proxy that speaks TLS to the carrier says so.
        outside = url.replace("http", "https")
        right = signature(f"{outside}/twilio?campaign=8", form)
        answer = await signed(right, form, "https")
        assert socket_url("twilio", answer).startswith(outside.replace("http", "ws", 1))
        # And a document of the user's own may name the socket: Twilio signs its handshake.
        address = url.replace("http", "ws") + "/twilio"
        assert await status_of(address) == 403
        right = signature(address, {})
        async with connect(address, additional_headers={"X-Twilio-Signature": right}) as socket:
            await socket.send(json.dumps(CONNECTED))
            await socket.send(json.dumps(TWILIO_START))
            assert (await bot.scene()).arguments.body["call_id"] == "CA1"
        # The signature opens no other door.
        assert (await ask(f"{url}/telnyx", {"X-Twilio-Signature": right}, b"")).status == 403


async def test_behind_a_proxy_that_changes_the_host_the_setting_says_who_we_are() -> None:
    carriers = CarriersConfig(token=TOKEN, url="https://bot.example.org")
    async with served(StageBot(), carriers=carriers) as url:
        answer = await ask(f"{url}/plivo?token={TOKEN}")
        assert socket_url("plivo", answer).startswith("wss://bot.example.org/plivo/")


async def test_rubbish_beside_a_signature_is_refused_like_any_wrong_one(
    monkeypatch: pytest.MonkeyPatch, log: list[str]
) -> None:
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", AUTH_TOKEN)
    async with served(StageBot(), host="0.0.0.0") as url:
        address = f"{url.replace('0.0.0.0', '127.0.0.1')}/twilio"
        for host in ("a:99999", "[1:2:3]"):
            shown = {"Host": host, "X-Twilio-Signature": "zz"}
            assert (await ask(address, shown)).status == 403
        half = {"X-Twilio-Signature": "zz", "Content-Type": "application/json"}
        assert (await ask(address, half, b'{"a": "\\ud800"}')).status == 403
    assert not any("Traceback" in entry for entry in log)


async def test_a_host_that_is_none_is_not_repeated() -> None:
    async with served(StageBot(), host="0.0.0.0", carriers=LET_IN) as url:
        address = f"{url.replace('0.0.0.0', '127.0.0.1')}/twilio?token={TOKEN}"
        answer = await ask(address, {"Host": 'a"/><Dial>1</Dial>'})
        assert answer.status == 400
        assert "Dial" not in answer.text


async def test_a_carrier_hears_that_all_places_are_taken() -> None:
    async with served(StageBot(), max_sessions=1, carriers=LET_IN) as url:
        headers = {"X-API-KEY": TOKEN}
        async with connect(f"{url.replace('http', 'ws')}/twilio", additional_headers=headers):
            assert '<Reject reason="busy"/>' in (await ask(f"{url}/twilio", headers)).text
            assert '<Hangup reason="busy"/>' in (await ask(f"{url}/plivo", headers)).text
            assert (await ask(f"{url}/vonage", headers)).status == 503


async def test_a_question_that_cannot_be_read_is_refused() -> None:
    form, other = "application/x-www-form-urlencoded", "application/json"
    asked = [
        (b"x" * 2_000, form, 413),
        (b"&".join(b"a=1" for _ in range(300)), form, 400),
        (b"{", other, 400),
        (b"[" * 1_400, other, 400),
        (b"\xff\xfe", form, 200),
        (b'{"from": "1", "to": 2}', other, 200),
        (b"[]", other, 200),
    ]
    limits = Limits(body_bytes=1_500)
    async with served(StageBot(), carriers=LET_IN, limits=limits) as url:
        for body, kind, status in asked:
            headers = {"Content-Type": kind}
            answer = await ask(f"{url}/vonage?token={TOKEN}", headers, body)
            assert answer.status == status, body[:20]
