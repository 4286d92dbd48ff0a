"""Whom a call goes to: from what people and bots say to a SIP URI, if the dial plan has it."""

import re
from collections.abc import Mapping

from talkpath.agent.sip.dial_plan import DialPlan
from talkpath.agent.sip.message import SipParseError, read_uri
from talkpath.agent.sip.patterns import plain_number
from talkpath.agent.sip.trunks import Trunk
from talkpath.agent.sip_sections import SipConfig
from talkpath.transports.sip.leg import LegError

__all__ = ["Whom", "user_of"]

_NUMBER = re.compile(r"[+\w.*#-]{1,64}", re.ASCII)


class Whom:
    """Addresses and dial plans of one listener.

    Args:
        config: the telephone's settings, with the plan for all calls.
        trunks: by name, each with a plan of its own.

    Attributes:
        trunks: these.
    """

    def __init__(self, config: SipConfig, trunks: Mapping[str, Trunk]) -> None:
        self.trunks = trunks
        hosts = [host for trunk in trunks.values() for host in trunk.hosts]
        self._dialling = [name for name, trunk in trunks.items() if trunk.hosts]
        self._plan = DialPlan(config.dial_plan, hosts)
        self._plans = {
            name: DialPlan(trunk.dial_plan, trunk.hosts) for name, trunk in trunks.items()
        }

    def uri(self, to: str, trunk: str = "", host: str = "") -> str:
        """The URI of what somebody says.

        Args:
            to: a URI, or a number.
            trunk: by whose host a number is called; empty for none.
            host: by which one it is then called: the peer's own, in a transfer.

        Raises:
            LegError: a number, and no host that it belongs to.
        """
        if to.lower().startswith(("sip:", "sips:")):
            return to
        number = plain_number(to.removeprefix("tel:").replace(" ", ""))
        where = next(iter(self.trunks[trunk].hosts), "") if trunk else ""
        if not _NUMBER.fullmatch(number):
            raise LegError(f"{to!r} is neither a SIP address nor a number")
        if not (where or host):
            names = ", ".join(self._dialling)
            if trunk:
                raise LegError(f"trunk {trunk!r} has no servers, by which a number could be called")
            raise LegError(
                f"by which trunk shall {to!r} be called? There are {names}"
                if names
                else f"{to!r} is no SIP address, and there is no trunk to call a number by"
            )
        return f"sip:{number}@{where or host}"

    def trunk_for(self, to: str, trunk: str) -> str:
        """The trunk by which somebody is called: the one that is named, or a number's only one."""
        if trunk or len(self._dialling) != 1 or to.lower().startswith(("sip:", "sips:")):
            return trunk
        return self._dialling[0]

    def permits(self, target: str, trunk: str = "") -> bool:
        """Whether a target may be called, by the plan for all or by that of the call's trunk."""
        plan = self._plans.get(trunk)
        return self._plan.permits(target) or (plan is not None and plan.permits(target))


def user_of(uri: str) -> str:
    """The user part of a URI: a number, or a name; empty where there is none."""
    try:
        return read_uri(uri).user or ""
    except SipParseError:
        return ""
