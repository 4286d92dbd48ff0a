"""Network metrics: how the listener stands with its peers."""

from talkpath.agent.metrics import Registry
from talkpath.transports.sip.keepalive import Keepalive
from talkpath.transports.sip.registrar_client import Registrars
from talkpath.transports.sip.sockets import SipSockets

__all__ = ["NetworkMetrics"]


class NetworkMetrics(Registry):
    """The figures of sockets, registrations and trunks' servers.

    Args:
        sockets: the sockets that peers know.
        registrars: the registrations of all trunks.
        keepalive: what knows which servers live.
    """

    def __init__(self, sockets: SipSockets, registrars: Registrars, keepalive: Keepalive) -> None:
        super().__init__()
        self.gauge(
            "talkpath_sip_connections",
            "TCP and TLS connections that are open.",
            lambda: sockets.connections,
        )
        self.gauge(
            "talkpath_sip_connections_refused",
            "Connections that were refused since the start, because there were too many.",
            lambda: sockets.refused,
        )
        self.gauge(
            "talkpath_sip_datagrams_unsent",
            "Datagrams that could not be sent since the start.",
            lambda: sockets.udp_errors,
        )
        self.gauge(
            "talkpath_sip_trunks_registered",
            "Trunks whose registration is in force.",
            lambda: sum(state.registered for state in registrars.states),
        )
        self.gauge(
            "talkpath_sip_trunks_unregistered",
            "Trunks that are to be registered and are not.",
            lambda: sum(not state.registered for state in registrars.states),
        )
        self.gauge(
            "talkpath_sip_servers_alive",
            "Machines of trunks that answer.",
            lambda: sum(state.alive for state in keepalive.states),
        )
        self.gauge(
            "talkpath_sip_servers_dead",
            "Machines of trunks that do not answer.",
            lambda: sum(not state.alive for state in keepalive.states),
        )
