"""A registrar that others wrote: Kamailio, with digest, in memory."""

import asyncio
from pathlib import Path

from talkpath.agent.sip.flow import Target
from talkpath.agent.sip.message import Request, Response
from talkpath.agent.sip.own_requests import own_request
from talkpath.agent.sip.trunks import Trunk
from talkpath.transports.sip.registrar_client import RegistrarClient
from tests.certificate import Certificate
from tests.sip.net.nat import Nat
from tests.sip.net.stage import SOON_S, Side, answer, soon
from tests.sip.programs import Program, find, free_port, program

_CONFIG = """
debug=1
log_stderror=yes
children=1
tcp_children=1
mpath="/usr/lib/x86_64-linux-gnu/kamailio/modules/:/usr/lib/kamailio/modules/"
listen=udp:127.0.0.1:{udp}
listen=tcp:127.0.0.1:{udp}
listen=tls:127.0.0.1:{tls}
enable_tls=yes
auto_aliases=no
loadmodule "tls.so"
loadmodule "tm.so"
loadmodule "sl.so"
loadmodule "pv.so"
loadmodule "textops.so"
loadmodule "xlog.so"
loadmodule "usrloc.so"
loadmodule "registrar.so"
loadmodule "auth.so"
modparam("tls", "tls_method", "TLSv1.2+")
modparam("tls", "private_key", "{key}")
modparam("tls", "certificate", "{cert}")
modparam("usrloc", "db_mode", 0)
modparam("registrar", "max_expires", 2)
modparam("auth", "nonce_expire", 2)
request_route {{
    if (is_method("REGISTER")) {{
        if (!pv_auth_check("$td", "secret", "0", "1")) {{
            auth_challenge("$td", "1");
            exit;
        }}
        save("location");
        xlog("L_ALERT", "saved $fU\n");
        exit;
    }}
    if (!lookup("location")) {{
        sl_send_reply("404", "Nobody");
        exit;
    }}
    t_relay();
}}
"""


def _trunk(name: str, server: str, password: str = "secret") -> Trunk:
    return Trunk(
        name=name,
        servers=(server,),
        user=name,
        password=password,
        register=True,
        domain="pbx.test",
    )


async def _listening(*ports: int) -> None:
    for port in ports:
        async with asyncio.timeout(SOON_S):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.05)
                    continue
                writer.close()
                await writer.wait_closed()
                break


async def _found(side: Side, port: int, name: str) -> int:
    """What becomes of a request for somebody that goes by way of Kamailio."""
    own = "sip:caller@127.0.0.1"
    request = own_request(
        "OPTIONS",
        f"sip:{name}@pbx.test",
        from_uri=own,
        to_uri=f"sip:{name}@pbx.test",
        contact=own,
        user_agent="caller",
    )
    return (await side.requests.request(request, Target("udp", "127.0.0.1", port))).status


async def _saved(kamailio: Program, count: int) -> None:
    """Wait for so many registrations more."""
    before = kamailio.text.count("saved")
    await soon(lambda: kamailio.text.count("saved") >= before + count)


def _well(request: Request) -> Response:
    return answer(request, 200)


async def test_kamailio_registers_us_and_finds_us_by_every_transport(
    tmp_path: Path, certificate: Certificate
) -> None:
    udp, tls = free_port(), free_port()
    config = tmp_path / "kamailio.cfg"
    keys = {"key": certificate.key, "cert": certificate.cert}
    config.write_text(_CONFIG.format(udp=udp, tls=tls, **keys))
    command = [find("kamailio"), "-DD", "-E", "-m", "32", "-M", "8", "-f", str(config)]
    command += ["-Y", str(tmp_path), "-w", str(tmp_path)]
    servers = {
        "udp": f"sip:127.0.0.1:{udp}",
        "tcp": f"sip:127.0.0.1:{udp};transport=tcp",
        "tls": f"sips:127.0.0.1:{tls}",
    }
    async with program(command, tmp_path) as kamailio, Side(_well, tls=certificate) as here:
        await _listening(udp, tls)
        ours = {
            name: RegistrarClient(_trunk(name, server), here.requests, "talkpath")
            for name, server in servers.items()
        }
        wrong = RegistrarClient(_trunk("eve", servers["udp"], "guess"), here.requests, "talkpath")
        clients = [*ours.values(), wrong]
        for client in clients:
            client.start()
        await soon(lambda: all(client.state.registered for client in ours.values()))
        # The nonce and the registration last two seconds: both are renewed before they end.
        for _ in range(2):
            for name in ours:
                assert await _found(here, udp, name) == 200, kamailio.text
                asked = [flow for data, flow in here.came if data.startswith(b"OPTIONS")]
                assert asked[-1].transport == name
            await _saved(kamailio, 6)
        assert [client.state.failures for client in clients[:-1]] == [0, 0, 0]
        await soon(lambda: "refused" in wrong.state.reason)
        assert await _found(here, udp, "eve") == 404
        await asyncio.gather(*(client.stop() for client in clients))
        assert {await _found(here, udp, name) for name in ours} == {404}
        await _behind_nat(here, udp, kamailio)


async def _behind_nat(here: Side, udp: int, kamailio: Program) -> None:
    """It finds us through a NAT, where it keeps no address of ours that leads nowhere."""
    async with Nat(("127.0.0.1", udp)) as nat:
        server = "sip:{}:{}".format(*nat.inside)
        client = RegistrarClient(_trunk("nina", server), here.requests, "talkpath")
        client.start()
        await soon(lambda: client.state.registered)
        assert await _found(here, udp, "nina") == 200, kamailio.text
        asked, flow = next((d, f) for d, f in reversed(here.came) if d.startswith(b"OPTIONS"))
        assert flow.remote == nat.inside
        assert asked.startswith("OPTIONS sip:nina@{}:{} ".format(*nat.outside).encode())
        await _saved(kamailio, 2)
        assert await _found(here, udp, "nina") == 200, kamailio.text
        await client.stop()
        assert await _found(here, udp, "nina") == 404
