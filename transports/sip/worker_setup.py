"""What each worker of the telephone is told at its start, beside the settings and the bots."""

from collections.abc import Iterable
from typing import Any

from talkpath.agent.sip.rewriting import host_port, sip_host
from talkpath.agent.sip.trunks import Trunk
from talkpath.agent.sip_sections import SipConfig

__all__ = ["MAIN", "worker_setup"]

MAIN = "main"
"""The profile of calls that come by no trunk and go by none."""


def worker_setup(
    config: SipConfig, trunks: Iterable[Trunk], inside: tuple[str, int], domain: str
) -> dict[str, Any]:
    """The worker's accounts, and where the listener is.

    Args:
        config: the telephone's settings.
        trunks: each has an account of its own.
        inside: host and port of the listener's socket for workers.
        domain: the host in our own addresses, where no trunk has another.

    Returns:
        Plain data for the first message to a worker.
    """
    domain = sip_host(domain)
    main = {
        "name": MAIN,
        "codecs": list(config.codecs),
        "srtp": config.srtp,
        "user": "talkpath",
        "auth_user": "",
        "password": "",
        "domain": domain,
    }
    return {
        "address": host_port(*inside),
        "advertised": "127.0.0.1",  # the edge puts in what peers see
        "profiles": [main, *(_profile(trunk, config, domain) for trunk in trunks)],
    }


def _profile(trunk: Trunk, config: SipConfig, domain: str) -> dict[str, Any]:
    return {
        "name": trunk.name,
        "codecs": list(trunk.codecs or config.codecs),
        "srtp": trunk.srtp or config.srtp,
        "user": trunk.caller_id or trunk.user or "talkpath",
        "auth_user": trunk.auth_user or trunk.user,
        "password": trunk.password,
        "domain": next(iter(trunk.hosts), domain),
    }
