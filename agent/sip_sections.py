"""Settings of the telephone: frozen values, checked when they are made.

How they come in from file, environment and flags is in ``talkpath.agent.config``; the trunks have
a file of their own, read by ``talkpath.agent.sip.trunks``.
"""

import ipaddress
from dataclasses import dataclass, field

from talkpath.agent.errors import ConfigError

__all__ = ["CODECS", "DIGESTS", "PRIVATE_NETWORKS", "SRTP", "SipConfig"]

CODECS = ("opus", "g722", "pcmu", "pcma")
"""The codecs that there are, in the order of preference."""

DIGESTS = ("sha-256", "md5")
"""The algorithms of passwords' proofs, the strongest first (RFC 8760)."""

SRTP = ("off", "prefer", "require", "dtls")
"""``prefer`` and ``require`` exchange keys in the session description (SDES, RFC 4568)."""

PRIVATE_NETWORKS = (
    "127.0.0.0/8",
    "::1/128",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "fc00::/7",
    "fe80::/10",
)
"""Addresses that no packet of the open internet comes from (RFC 1918, 3927, 4193, 4291, 6598)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SipConfig:
    """The telephone (``talkpath run BOT --transport sip``).

    Attributes:
        port: UDP and TCP port of SIP; 0 lets the system choose.
        tls_port: TCP port of SIP over TLS, with ``tls_cert`` only; 0 lets the system choose.
        tls_cert: file of the certificate chain in PEM; empty serves no TLS.
        tls_key: file of its private key; empty where the certificate's has it.
        tls_ca: file of the authorities that peers' certificates are checked with; empty takes
            those of the system.
        public_address: this machine's address as peers see it, behind NAT; empty takes the one
            that faces them.
        rtp_ports: UDP ports of audio, first to last.
        codecs: what is offered and taken, in the order of preference.
        srtp: whether audio is encrypted: ``off``, ``prefer``, ``require``, or ``dtls``.
        symmetric_rtp: whether audio goes back to where it comes from: ``auto`` where a peer's
            address shows that it is behind NAT, ``always``, or ``off``.
        allow: networks that may call without a password.
        users: ``name:password`` of phones that may call from anywhere.
        realm: what digest passwords are for.
        digests: algorithms that proofs of passwords are asked for in, the preferred first; some
            phones give up when they are offered ``sha-256``, even beside ``md5``.
        trunks: file of the trunks, or empty.
        routes: ``PATTERN=BOT`` by dialled number (``*`` matches anything), or
            ``Header:PATTERN=BOT``; the first that fits counts.
        dispatch: ``file.py:function`` that is asked for each call before it rings, or empty.
        dial_plan: patterns of the addresses and numbers that may be called or transferred to;
            with none, nobody can be.
        accept_refer: whether a peer may send a call elsewhere (within the dial plan).
        max_calls: calls at once; one more is refused with ``busy_status``.
        busy_status: 486 or 503.
        calls_per_worker: calls that one process carries; 0 puts all into one.
        workers: processes that are started at once and stay, with ``calls_per_worker`` only;
            further ones come and go with the calls.
        requests_per_s: new requests a second from one address, in the mean; more are dropped.
        ring_s: seconds that a call rings before it is answered.
        max_duration_s: seconds after which a call is ended; 0 never ends one.
        silence_s: seconds without a sound from either side after which a call is ended; 0 never.
        media_timeout_s: seconds without a packet of audio after which a call is ended; 0 never.
        keepalive_s: seconds between ``OPTIONS`` to each trunk's servers; 0 sends none.
        drain_s: seconds that calls have to end by themselves once the server is to stop.
        record_folder: where each call's sound is written, caller left, bot right; empty: nowhere.
        user_agent: what ``User-Agent`` and ``Server`` say.
        admin_key: whoever asks the HTTP service for calls must send it as ``Authorization: Bearer
            KEY``; empty asks for none, and lets only this machine in.
    """

    port: int = 5060
    tls_port: int = 5061
    tls_cert: str = ""
    tls_key: str = ""
    tls_ca: str = ""
    public_address: str = ""
    rtp_ports: str = "16384-32767"
    codecs: tuple[str, ...] = CODECS
    srtp: str = "prefer"
    symmetric_rtp: str = "auto"
    allow: tuple[str, ...] = PRIVATE_NETWORKS
    users: tuple[str, ...] = field(default=(), repr=False)
    realm: str = "talkpath"
    digests: tuple[str, ...] = ("md5",)
    trunks: str = ""
    routes: tuple[str, ...] = ()
    dispatch: str = ""
    dial_plan: tuple[str, ...] = ()
    accept_refer: bool = False
    max_calls: int = 100
    busy_status: int = 503
    calls_per_worker: int = 0
    workers: int = 1
    requests_per_s: float = 10.0
    ring_s: float = 0.0
    max_duration_s: float = 7200.0
    silence_s: float = 600.0
    media_timeout_s: float = 30.0
    keepalive_s: float = 30.0
    drain_s: float = 30.0
    record_folder: str = ""
    user_agent: str = "talkpath"
    admin_key: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        for name in ("port", "tls_port"):
            _require(0 <= getattr(self, name) <= 65535, f"sip.{name} must lie between 0 and 65535")
        _require(
            bool(self.tls_cert) or not self.tls_key, "sip.tls_key is of no use without tls_cert"
        )
        _require(not _wrong(self.public_address), "sip.public_address must be an IP address")
        first, last = self.rtp_range
        _require(
            1024 <= first < last <= 65535,
            "sip.rtp_ports must be FIRST-LAST, between 1024 and 65535",
        )
        _require(
            bool(self.codecs) and set(self.codecs) <= set(CODECS),
            f"sip.codecs must be some of {', '.join(CODECS)}",
        )
        _require(
            self.srtp in SRTP, f"sip.srtp is {self.srtp!r}; it must be one of {', '.join(SRTP)}"
        )
        _require(
            self.symmetric_rtp in ("auto", "always", "off"),
            f"sip.symmetric_rtp is {self.symmetric_rtp!r}; it must be auto, always or off",
        )
        for network in self.allow:
            _require(not _no_network(network), f"sip.allow: {network!r} is no network")
        for user in self.users:
            name, colon, password = user.partition(":")
            _require(bool(name and colon and password), "sip.users must be name:password")
        _require(
            bool(self.digests) and set(self.digests) <= set(DIGESTS),
            f"sip.digests must be some of {', '.join(DIGESTS)}",
        )
        for route in self.routes:
            pattern, _, bot = route.rpartition("=")
            _require(bool(pattern and bot), f"sip.routes: {route!r} is not PATTERN=BOT")
        _require(self.max_calls >= 1, "sip.max_calls must be 1 or more")
        _require(self.busy_status in (486, 503), "sip.busy_status must be 486 or 503")
        _require(self.calls_per_worker >= 0, "sip.calls_per_worker must be 0 or more")
        _require(self.workers >= 1, "sip.workers must be 1 or more")
        _require(
            bool(self.calls_per_worker) or self.workers == 1,
            "sip.workers is of no use without sip.calls_per_worker",
        )
        _require(self.requests_per_s > 0, "sip.requests_per_s must be more than 0")
        for name in (
            "ring_s",
            "max_duration_s",
            "silence_s",
            "media_timeout_s",
            "keepalive_s",
            "drain_s",
        ):
            _require(getattr(self, name) >= 0, f"sip.{name} must be 0 or more")
        _require(
            bool(self.user_agent) and self.user_agent.isprintable() and self.user_agent.isascii(),
            "sip.user_agent must be a name",
        )
        _require(
            self.admin_key.isprintable() and self.admin_key.isascii() and " " not in self.admin_key,
            "sip.admin_key must be visible ASCII without a space",
        )

    @property
    def rtp_range(self) -> tuple[int, int]:
        """First and last port of ``rtp_ports``; zeros where it is no range."""
        first, _, last = self.rtp_ports.partition("-")
        return (int(first), int(last)) if first.isdecimal() and last.isdecimal() else (0, 0)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def _wrong(address: str) -> bool:
    try:
        return bool(address) and not ipaddress.ip_address(address)
    except ValueError:
        return True


def _no_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return True
    return False
