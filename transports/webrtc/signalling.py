"""WebRTC signalling: offers, answers and ICE candidates, with every limit checked.

It speaks the protocol of Pipecat's small WebRTC clients: an offer ``{sdp, type, pc_id?,
restart_pc?, request_data?}`` is answered with ``{sdp, type, pc_id}``; candidates follow as
``{pc_id, candidates: [{candidate, sdp_mid, sdp_mline_index}]}``. HTTP is not known here;
what cannot be answered raises :class:`~talkpath.transports.sessions.Refused`.
"""

import asyncio
import time
import uuid
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import unquote

from aiortc import RTCIceCandidate
from aiortc.rtcicetransport import parse_stun_turn_uri
from aiortc.sdp import SessionDescription, candidate_from_sdp
from loguru import logger
from pipecat.runner.types import SmallWebRTCRunnerArguments
from pipecat.transports.smallwebrtc.connection import IceServer, SmallWebRTCConnection
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from talkpath.agent.errors import ConfigError
from talkpath.transports.sessions import Bot, Limits, Refused, Sessions, apology, attend

__all__ = ["Candidate", "Candidates", "Offer", "Signalling", "ice_server"]


class Offer(BaseModel):
    """A caller's offer.

    Attributes:
        sdp: session description.
        type: always ``offer``.
        pc_id: the connection to renegotiate; None opens a new session.
        restart_pc: whether that connection is to be replaced by a new one.
        request_data: anything the caller passes to the bot as ``runner_args.body``.
    """

    model_config = ConfigDict(frozen=True)

    sdp: str
    type: Literal["offer"]
    pc_id: str | None = None
    restart_pc: bool | None = None
    request_data: Any = Field(
        default=None, validation_alias=AliasChoices("request_data", "requestData")
    )


class Candidate(BaseModel):
    """One ICE candidate; an empty one says that no more follow (RFC 8840)."""

    model_config = ConfigDict(frozen=True)

    candidate: str = Field(max_length=1024)
    sdp_mid: str | None = None
    sdp_mline_index: int | None = None


class Candidates(BaseModel):
    """ICE candidates of a caller."""

    model_config = ConfigDict(frozen=True)

    pc_id: str
    candidates: tuple[Candidate, ...]


def ice_server(url: str) -> IceServer:
    """A STUN or TURN server from its URL; ``turn:user:password@host`` carries credentials.

    Raises:
        ConfigError: this is no such URL.
    """
    scheme, _, rest = url.partition(":")
    account, _, address = rest.rpartition("@")
    user, _, password = account.partition(":")
    bare = f"{scheme}:{address}"
    try:
        parse_stun_turn_uri(bare)
    except ValueError as error:
        raise ConfigError(f"server.ice_servers: {bare!r} is no STUN or TURN URL") from error
    if not account:
        return IceServer(urls=bare)
    return IceServer(urls=bare, username=unquote(user), credential=unquote(password))


@dataclass(slots=True)
class _Call:
    """A connection and what is known about it."""

    session_id: str
    connection: Any  # a SmallWebRTCConnection, most of whose methods have no types
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    negotiation: asyncio.Lock = field(default_factory=asyncio.Lock)
    candidates: int = 0


class Signalling:
    """Opens sessions for offers and carries their connections.

    Args:
        bot: called once for every new session.
        sessions: where they run.
        ice_servers: servers that this side's connections use.
        limits: sizes and times granted.
    """

    def __init__(
        self, bot: Bot, sessions: Sessions, ice_servers: list[IceServer], limits: Limits
    ) -> None:
        self._bot = bot
        self._sessions = sessions
        self._ice_servers = ice_servers
        self._limits = limits
        self._calls: dict[str, _Call] = {}

    def has_session(self, session_id: str) -> bool:
        """Whether a session of this name is open."""
        return any(call.session_id == session_id for call in self._calls.values())

    async def answer(
        self, offer: Offer, *, session_id: str | None = None, body: Any = None
    ) -> dict[str, str]:
        """Answer an offer: open a session, or renegotiate the one of ``offer.pc_id``.

        Args:
            offer: the offer.
            session_id: name of the session; by default a new one.
            body: what the bot gets as ``body`` when the offer carries no ``request_data``.

        Returns:
            ``sdp``, ``type`` and ``pc_id``.

        Raises:
            Refused: 400 the SDP makes no sense, 404 no such connection, 413 too large,
                503 the server is full.
        """
        _check(offer.sdp, self._limits)
        if offer.pc_id is not None:
            return await self._renegotiate(self._find(offer.pc_id, session_id), offer)
        with self._sessions.slot():
            connection = SmallWebRTCConnection(list(self._ice_servers))
            call = _Call(session_id or uuid.uuid4().hex, connection)

            async def closed(_: SmallWebRTCConnection) -> None:
                call.closed.set()

            connection.add_event_handler("closed", closed)
            answer = await _negotiate(connection, offer)
            data = body if offer.request_data is None else offer.request_data
            arguments = SmallWebRTCRunnerArguments(
                webrtc_connection=connection,
                body={} if data is None else data,
                session_id=call.session_id,
            )
            self._calls[connection.pc_id] = call
            self._sessions.start(call.session_id, self._converse(call, arguments))
        return answer

    async def add_candidates(self, message: Candidates, *, session_id: str | None = None) -> None:
        """Pass ICE candidates on to the connection they are for.

        Raises:
            Refused: 400 a candidate makes no sense, 404 no such connection, 413 too many.
        """
        call = self._find(message.pc_id, session_id)
        call.candidates += len(message.candidates)
        if call.candidates > self._limits.candidates:
            raise Refused(
                413, f"A connection takes at most {self._limits.candidates} ICE candidates."
            )
        for candidate in [_candidate(item) for item in message.candidates]:
            try:
                await call.connection.add_ice_candidate(candidate)
            except Exception as error:  # aiortc states no error of its own here
                logger.debug("session {}: candidate not taken: {}", call.session_id, error)
                raise Refused(400, "This connection cannot use the ICE candidate.") from error

    def _find(self, pc_id: str, session_id: str | None) -> _Call:
        call = self._calls.get(pc_id)
        if call is None or session_id not in (None, call.session_id):
            raise Refused(404, "There is no such connection; it may have ended.")
        return call

    async def _renegotiate(self, call: _Call, offer: Offer) -> dict[str, str]:
        async with call.negotiation:
            if call.closed.is_set():
                raise Refused(404, "There is no such connection; it may have ended.")
            connection, before = call.connection, call.connection.pc_id
            restart = bool(offer.restart_pc)
            try:
                await connection.renegotiate(sdp=offer.sdp, type=offer.type, restart_pc=restart)
            except Exception as error:  # aiortc's parser and state checks raise anything
                logger.debug("session {}: no renegotiation: {}", call.session_id, error)
                if restart:  # the old connection is gone already
                    call.closed.set()
                    self._calls.pop(before, None)
                raise Refused(400, "This offer cannot be answered.") from error
            self._calls.pop(before, None)
            if call.closed.is_set():  # the session ended meanwhile
                await connection.disconnect()
                raise Refused(404, "There is no such connection; it may have ended.")
            # A restart gives the connection a new id.
            self._calls[connection.pc_id] = call
            if restart:
                call.candidates = 0
            answer: dict[str, str] = connection.get_answer()
            return answer

    async def _converse(self, call: _Call, arguments: SmallWebRTCRunnerArguments) -> None:
        connection = call.connection
        try:
            error = await attend(self._bot, arguments, self._gone(call), self._limits)
            if error is not None and not call.closed.is_set():
                # The page hangs up when it reads this. If it is still connecting, the
                # connection keeps the message until it can be sent.
                connection.send_app_message(apology(error))
                async with asyncio.timeout(self._limits.grace_s):
                    await call.closed.wait()
        except TimeoutError:
            pass
        finally:
            call.closed.set()
            self._calls.pop(connection.pc_id, None)
            await connection.disconnect()

    async def _gone(self, call: _Call) -> None:
        """Return when the connection closed, or was not up for too long."""
        last_up = time.monotonic()
        while not call.closed.is_set():
            try:
                async with asyncio.timeout(1):
                    await call.closed.wait()
            except TimeoutError:
                now = time.monotonic()
                if call.connection.pc.connectionState == "connected":
                    last_up = now
                elif now - last_up > self._limits.connect_s:
                    logger.warning("session {}: no connection came up", call.session_id)
                    return


def _check(sdp: str, limits: Limits) -> None:
    if len(sdp) > limits.sdp_bytes:
        raise Refused(413, f"The SDP is longer than {limits.sdp_bytes} bytes.")
    try:
        media = SessionDescription.parse(sdp).media
    except Exception as error:  # the parser raises whatever it stumbles over
        raise Refused(400, "The SDP cannot be read.") from error
    if not media or media[0].kind != "audio":
        raise Refused(400, "The offer's first media section must be audio.")
    if len(media) > limits.media_sections:
        raise Refused(400, f"The offer has more than {limits.media_sections} media sections.")


async def _negotiate(connection: Any, offer: Offer) -> dict[str, str]:
    """First answer of a connection, which is closed again if there is none."""
    answer: dict[str, str] | None = None
    try:
        await connection.initialize(sdp=offer.sdp, type=offer.type)
        answer = connection.get_answer()
        assert answer is not None  # initialize() has just made it
        return answer
    except Exception as error:  # aiortc's negotiation raises whatever it stumbles over
        logger.debug("offer not answered: {}", error)
        raise Refused(400, "This offer cannot be answered.") from error
    finally:
        if answer is None:
            await connection.disconnect()


def _candidate(item: Candidate) -> RTCIceCandidate | None:
    if not item.candidate:
        return None
    try:
        candidate = candidate_from_sdp(item.candidate.removeprefix("candidate:"))
    except Exception as error:  # the parser raises whatever it stumbles over
        raise Refused(400, "An ICE candidate cannot be read.") from error
    candidate.sdpMid = item.sdp_mid
    candidate.sdpMLineIndex = item.sdp_mline_index
    return candidate
