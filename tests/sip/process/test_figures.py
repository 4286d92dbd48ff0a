"""What is counted of calls, how several processes' figures become one, and who may see them."""

from collections.abc import Mapping
from typing import Any

from talkpath.agent.call_metrics import CallMetrics, outcome_of
from talkpath.agent.config import Config, ServerConfig, SipConfig, dump_config, load_config
from talkpath.agent.metrics import Registry, render_prometheus
from talkpath.agent.metrics_text import merge_prometheus
from talkpath.transports.sip.admin import create_admin
from talkpath.transports.sip.leg import CallQuality
from talkpath.transports.sip.listener import Listener


def test_calls_are_counted_from_begin_to_end() -> None:
    metrics = CallMetrics()
    metrics.began("inbound")
    metrics.began("outbound")
    metrics.connected("inbound", 0.3)
    assert metrics.active == 2
    quality = CallQuality(duration_s=20, received=990, lost=10, jitter_ms=3, mos=4.2)
    metrics.ended("answered", quality)
    metrics.ended(outcome_of(486))
    assert metrics.active == 0
    assert metrics.ends.values == {"answered": 1, "busy": 1}
    assert metrics.loss.distribution().mean == 0.01
    assert metrics.round_trip.distribution().count == 0  # nobody told it
    text = render_prometheus(metrics)
    assert 'talkpath_call_setup_seconds_count{direction="inbound"} 1' in text
    assert 'talkpath_call_mos_bucket{le="4.1"} 0' in text
    assert 'talkpath_call_mos_bucket{le="4.2"} 1' in text


def test_every_refusal_has_a_name() -> None:
    outcomes = {
        status: outcome_of(status) for status in (0, 404, 408, 480, 486, 487, 503, 600, 603)
    }
    assert outcomes == {
        0: "cancelled",
        404: "failed",
        408: "no_answer",
        480: "no_answer",
        486: "busy",
        487: "cancelled",
        503: "failed",
        600: "busy",
        603: "declined",
    }


def _process(calls: int, kind: str, seconds: float) -> str:
    registry = Registry()
    registry.counter("calls_total", "Calls with\na line break.").add(calls)
    registry.counter("kinds_total", "Kinds.", "kind").add(1, of=kind)
    registry.gauge("depth", "Depth.", lambda: calls)
    registry.histogram("spent_seconds", "Time.", (1, 2)).observe(seconds)
    return render_prometheus(registry)


def test_figures_of_several_processes_are_added_up() -> None:
    merged = merge_prometheus([_process(2, "a b", 0.5), _process(40, "c", 1.5), ""])
    assert "calls_total 42\n" in merged
    assert 'kinds_total{kind="a b"} 1\nkinds_total{kind="c"} 1\n' in merged
    assert "depth 42\n" in merged
    assert 'spent_seconds_bucket{le="1"} 1\nspent_seconds_bucket{le="2"} 2\n' in merged
    assert "spent_seconds_sum 2\nspent_seconds_count 2\n" in merged
    assert merged.count("# HELP") == merged.count("# TYPE") == 4
    alone = _process(2, "a", 0.5)
    assert merge_prometheus([alone]) == alone


def test_settings_survive_the_way_to_a_worker() -> None:
    config = load_config(
        {"sip.users": ["a:b"], "sip.allow": [], "sip.ring_s": 2, "voice.options": {"speed": 1.5}}
        | {"whisper.model": "tiny.en", "turn.eager": False, "sip.admin_key": "k"},
        environ={},
    )
    assert load_config(dump_config(config), environ={}) == config
    assert load_config(dump_config(Config()), environ={}) == Config()


class _Client:
    """Asks a service whose listener has not started, from an address of its own."""

    def __init__(self, config: Config, address: str) -> None:
        self._app = create_admin(Listener(config, ["loopback"]), config)
        self._address = address
        self._host = b"localhost" if config.server.host == "127.0.0.1" else b"192.0.2.1:7860"

    async def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> tuple[int, str]:
        """Status and body of the answer."""
        own = {"host": self._host.decode(), **(headers or {})}
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in own.items()],
            "client": (self._address, 40000),
        }
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        return sent[0]["status"], b"".join(part.get("body", b"") for part in sent).decode()


async def test_other_machines_need_the_key_and_pages_of_others_may_nothing() -> None:
    open_host = ServerConfig(host="0.0.0.0")
    keyless = Config(server=open_host, sip=SipConfig(port=0))
    keyed = Config(server=open_host, sip=SipConfig(port=0, admin_key="sesame"))
    here = _Client(Config(), "127.0.0.1")
    stranger, friend = _Client(keyless, "192.0.2.9"), _Client(keyed, "192.0.2.9")

    assert await here.ask("GET", "/calls") == (200, '{"calls":[]}')
    assert (await here.ask("GET", "/readyz"))[0] == 503  # it has not started
    assert "talkpath_calls_active 0" in (await here.ask("GET", "/metrics"))[1]
    assert (await here.ask("POST", "/calls", body=b'{"to": "sip:a@b"}'))[0] == 503
    foreign = {"origin": "https://evil.example"}
    assert (await here.ask("POST", "/calls", foreign))[0] == 403
    assert (await here.ask("GET", "/calls", {"host": "evil.example"}))[0] == 403

    assert (await stranger.ask("GET", "/healthz"))[0] == 200
    right = {"authorization": "Bearer sesame"}
    for path in ("/calls", "/metrics"):
        status, text = await stranger.ask("GET", path)
        assert status == 403 and "sip.admin_key" in text
        for wrong in ({}, {"authorization": "Bearer sesamé"}, {"authorization": "Basic sesame"}):
            assert (await friend.ask("GET", path, wrong))[0] == 401
        assert (await friend.ask("GET", path, right))[0] == 200
    assert (await friend.ask("POST", "/calls", right, b"x" * 70_000))[0] == 413
