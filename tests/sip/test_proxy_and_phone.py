"""A PBX between the telephone and the product, and a second make of telephone."""

import asyncio
from pathlib import Path

from tests.sip.hearing import talk, whole
from tests.sip.kamailio import kamailio
from tests.sip.phones import linphone
from tests.sip.telephone import Telephone, telephone

_TRUNK = """\
[[trunk]]
name = "pbx"
servers = ["sip:127.0.0.1:{port}"]
user = "bot"
password = "{password}"
register = true
"""


async def test_a_bot_registers_with_kamailio_and_is_called_through_it(tmp_path: Path) -> None:
    async with kamailio(tmp_path / "kamailio") as pbx:
        trunks = tmp_path / "trunks.toml"
        await asyncio.to_thread(
            trunks.write_text, _TRUNK.format(port=pbx.port, password=pbx.password)
        )
        running = telephone("loopback", tmp_path / "log", trunks=trunks)
        await asyncio.to_thread(running.__enter__)
        try:
            await pbx.program.says("registered: bot")
            whole(await talk(pbx.port, 3.0, user="bot"), 3.0)
        finally:
            await asyncio.to_thread(running.__exit__, None, None, None)
        # Whoever stops says so: nobody is sent to an empty room.
        assert "404" in (await talk(pbx.port, 1.0, user="bot")).failure


async def test_linphone_calls_holds_resumes_and_hangs_up(line: Telephone, tmp_path: Path) -> None:
    async with linphone(tmp_path / "linphone") as phone:
        await phone.send(f"call {line.uri()}")
        await phone.says("LinphoneCallStreamsRunning")
        await phone.says("Received-InterarrivalJitter")  # the bot's packets
        await phone.send("call-pause 1")
        await phone.says("LinphoneCallPaused\n")
        place = len(phone.text)
        await phone.send("call-resume 1")
        await phone.says("LinphoneCallStreamsRunning", past=place)
        await phone.send("terminate 1")
        await phone.says("LinphoneCallReleased")
    assert "LinphoneCallError" not in phone.text
