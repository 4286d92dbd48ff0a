"""Who may call: addresses, passwords, how often, and silence toward scanners.

Whoever scans the internet for telephones learns nothing here, not even that there is one: what
comes from a stranger is answered only where phones with a password may call from anywhere, and
then every INVITE gets the same challenge, whoever it says it is from.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from talkpath.agent.metrics import Registry
from talkpath.agent.sip.digest_server import DigestServer, Outcome
from talkpath.agent.sip.message import Request
from talkpath.agent.sip.rate_limit import Lockout, RateLimit
from talkpath.agent.sip.trunks import Trunk, sip_host
from talkpath.agent.sip_sections import SipConfig

__all__ = ["SCANNERS", "Access", "Admit", "Challenge", "Ignore", "Refuse", "Verdict"]

SCANNERS = (
    "friendly-request",
    "friendly-scanner",
    "iwar",
    "pplsip",
    "sip:nm2@nm2",
    "sip:nm@nm",
    "sip-scan",
    "siparmyknife",
    "sipcli",
    "sipscan",
    "sipvicious",
    "sivus",
    "sundayddr",
    "vaxasip",
    "vaxsipuseragent",
)
"""What known scanners say of themselves: sipvicious and what is built on it, nmap, VaxVoIP."""

_SCANNER = re.compile(rf"\b(?:{'|'.join(map(re.escape, SCANNERS))})\b", re.I)
_TELLING = ("User-Agent", "From", "To", "Contact")
_BURST = 3.0
_RETRY_AFTER_S = 5

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Admit:
    """The request may pass.

    Attributes:
        trunk: the trunk that it comes from, if any.
        user: the name that its password proved, or empty.
    """

    trunk: Trunk | None = None
    user: str = ""


@dataclass(frozen=True, slots=True)
class Challenge:
    """Answer 401, with a ``WWW-Authenticate`` line for each of these (RFC 8760, 2.3)."""

    headers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ignore:
    """Answer nothing at all."""

    why: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer with a status."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...] = ()


Verdict = Admit | Challenge | Ignore | Refuse


class Access:
    """Judges requests that belong to no call.

    Args:
        config: the telephone's settings.
        trunks: the trunks.
        registry: gets the metric.

    Attributes:
        ignored: counts what was met with silence, by reason: ``scanner``, ``locked``, ``rate``,
            ``stranger``, ``address``.
    """

    def __init__(
        self, config: SipConfig, trunks: Sequence[Trunk], registry: Registry | None = None
    ) -> None:
        self._allowed = [ipaddress.ip_network(network) for network in config.allow]
        self._users = dict(_name_and_password(user) for user in config.users)
        self._trunks = list(trunks)
        self._networks = {trunk.name: _networks_of(trunk) for trunk in trunks}
        self._rate = RateLimit(config.requests_per_s, _BURST * config.requests_per_s)
        self._failures = Lockout()
        self._digest = DigestServer(config.realm, [name.upper() for name in config.digests])
        self.ignored = (registry or Registry()).counter(
            "talkpath_sip_ignored_total",
            "Requests from outside that were met with silence, by reason.",
            "reason",
        )

    def learn(self, trunk: str, addresses: Iterable[str]) -> None:
        """Take the addresses that a trunk's servers were found at as the trunk's own.

        They replace what was learned before; those that the trunk's settings name always count.

        Raises:
            KeyError: there is no such trunk.
            ValueError: that is no address.
        """
        own = next((one for one in self._trunks if one.name == trunk), None)
        if own is None:
            raise KeyError(trunk)
        found = [ipaddress.ip_network(_plain(address)) for address in addresses]
        self._networks[trunk] = _networks_of(own) + found

    def judge(self, request: Request, address: str, now_s: float) -> Verdict:
        """Say what is to become of a request outside of all calls.

        Args:
            request: it need not be well-formed beyond what ``parse_message`` asks for.
            address: the IP address that it came from.
            now_s: the time, of a clock that never goes back.
        """
        verdict = self._judge(request, address, now_s)
        if isinstance(verdict, Ignore):
            self.ignored.add(of=verdict.why)
        return verdict

    def _judge(self, request: Request, address: str, now_s: float) -> Verdict:
        try:
            source = ipaddress.ip_address(_plain(address))
        except ValueError:
            return Ignore("address")
        if _is_scanner(request):
            return Ignore("scanner")
        key = _key(source)
        if self._failures.is_locked(key, now_s):
            return Ignore("locked")
        trunk = self._trunk(request, source)
        is_known = trunk is not None or any(source in network for network in self._allowed)
        if not self._rate.take(key, now_s):
            if not is_known:
                return Ignore("rate")
            return Refuse(503, "Too Many Requests", (("Retry-After", str(_RETRY_AFTER_S)),))
        if trunk is not None and trunk.challenge:
            users = {trunk.auth_user or trunk.user: trunk.password}
            return self._prove(request, trunk, users, key, now_s)
        if is_known:
            return Admit(trunk)
        if not self._users or request.method != "INVITE":
            return Ignore("stranger")
        return self._prove(request, None, self._users, key, now_s)

    def _prove(
        self,
        request: Request,
        trunk: Trunk | None,
        users: Mapping[str, str],
        key: str,
        now_s: float,
    ) -> Verdict:
        """Let a request pass with a password only."""
        checked = self._digest.check(request, users, key, now_s)
        if checked.outcome is Outcome.RIGHT:
            return Admit(trunk, checked.user)
        if checked.outcome is Outcome.WRONG:
            # Its nonce was made for this address, so nobody can shut out another by forging his.
            self._failures.fail(key, now_s)
        is_stale = checked.outcome is Outcome.STALE
        return Challenge(self._digest.challenge(key, now_s, stale=is_stale))

    def _trunk(self, request: Request, source: _Address) -> Trunk | None:
        """The trunk that an address belongs to; of several, the one that was called by its user."""
        mine = [
            trunk
            for trunk in self._trunks
            if any(source in network for network in self._networks[trunk.name])
        ]
        user, at, _ = request.uri.partition(":")[2].partition("@")
        return next(
            (trunk for trunk in mine if at and trunk.user and trunk.user == user),
            mine[0] if mine else None,
        )


def _name_and_password(user: str) -> tuple[str, str]:
    name, _, password = user.partition(":")
    return name, password


def _networks_of(trunk: Trunk) -> list[_Network]:
    """What a trunk's settings name, and those of its servers that are addresses."""
    networks = [ipaddress.ip_network(network) for network in trunk.addresses]
    for server in trunk.servers:
        try:
            networks.append(ipaddress.ip_network(sip_host(server)))
        except ValueError:
            continue  # a name: see learn()
    return networks


def _plain(address: str) -> str:
    """An address without its zone; as IPv4 where it is that in IPv6's clothes."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed)


def _key(source: _Address) -> str:
    """Who is counted as one: an address, in IPv6 the /64 that one customer has."""
    if isinstance(source, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(source) >> 64 << 64, 64)).network_address)
    return str(source)


def _is_scanner(request: Request) -> bool:
    return any(_SCANNER.search(request.headers.get(name) or "") for name in _TELLING)
