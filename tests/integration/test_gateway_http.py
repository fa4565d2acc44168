"""HTTP of a real gateway: health, the tape, the dashboard, metrics, and who may come in."""

import gzip
import json
import re

import pytest
from websockets.exceptions import InvalidStatus

from fixtures.gateway import Feed, Gateway
from fixtures.processes import Programs
from fixtures.wsclient import WsClient


@pytest.fixture
def feed(run_dir):
    made = Feed(run_dir)
    made.add(25)
    yield made
    made.close()


@pytest.fixture
def gateway(programs: Programs, feed, run_dir) -> Gateway:
    return Gateway.start(programs, run_dir)


def test_the_tape_is_served_page_by_page(gateway, feed):
    page = gateway.json("/api/trades?from_seq=21&limit=3")
    assert {key: page[key] for key in ("epoch", "oldest", "head", "seq", "toSeq", "gap")} == {
        "epoch": feed.writer.epoch,
        "oldest": 1,
        "head": 25,
        "seq": 21,
        "toSeq": 23,
        "gap": None,
    }
    assert [trade["volume"] for trade in page["trades"]] == ["21", "22", "23"]
    assert [trade["volume"] for trade in gateway.json("/api/trades?limit=2")["trades"]] == ["24", "25"]
    beyond = gateway.json("/api/trades?from_seq=26")
    assert (beyond["seq"], beyond["toSeq"], beyond["trades"]) == (26, 25, [])
    far = gateway.json(f"/api/trades?from_seq={2**63 - 1}")
    assert far["trades"] == []


def test_what_is_off_the_tape_is_a_gap_and_gone(gateway, feed):
    while gateway.json("/api/trades?limit=1")["oldest"] < 500:
        feed.add(500, note="x" * 500)
    page = gateway.json("/api/trades?from_seq=1&limit=2")
    assert page["gap"] == {"from": 1, "to": page["seq"] - 1, "why": "overrun"}
    assert page["seq"] >= 500
    assert gateway.get("/api/trades/3")[0] == 410
    assert gateway.get("/api/trades/3/why")[0] == 410


def test_one_trade_and_why(gateway):
    trade = gateway.json("/api/trades/20")
    assert (trade["volume"], trade["status"], trade["reason"]) == ("20", "INVALID", "Too far")
    why = gateway.json("/api/trades/20/why")
    assert (why["seq"], why["rule"], why["ruleSet"], why["trade"]) == (20, "near_vwap", "desk@1a2b", trade)
    assert (why["observed"], why["limit"], why["rulesVwap"]) == (None, None, None)
    assert set(why["stagesUs"]) == {"decode", "rules", "enrich", "tape"}
    assert gateway.json("/api/trades/21/why")["rule"] is None
    for seq in (0, 26, -1, 2**70):
        assert gateway.get(f"/api/trades/{seq}")[0] == 404


def test_wrong_parameters_are_refused_with_their_name(gateway):
    for query in ("limit=0", "limit=10001", "from_seq=0", "from_seq=x"):
        status, body, _ = gateway.get(f"/api/trades?{query}")
        assert status == 400
        assert query.partition("=")[0] in body.decode()


def test_snapshot_instruments_rules_and_status(gateway, feed):
    snapshot = gateway.json("/api/snapshot")
    assert (snapshot["toSeq"], snapshot["seqs"]) == (25, [21, 22, 23, 24, 25])
    assert gateway.json("/api/snapshot?instrument=SYM3&instrument=SYM1")["seqs"] == [21, 23]
    feed.board(volumeScale={"SYM2": 1000}, policy="fail-open", rules=[{"name": "near_vwap", "breaker": "open"}])
    assert gateway.json("/api/instruments") == {
        "epoch": feed.writer.epoch,
        "instruments": [
            {"code": code, "instrumentId": name, "volumeScale": 1000 if name == "SYM2" else 1}
            for code, name in enumerate(["SYM1", "SYM2", "SYM3", "SYM4", "SYM0"])
        ],
    }
    rules = gateway.json("/api/rules")
    assert (rules["ruleSet"], rules["policy"], rules["rules"][0]["breaker"]) == ("desk@1a2b", "fail-open", "open")
    status = gateway.json("/api/status")
    assert (status["readiness"]["ready"], status["board"]["policy"], status["gateway"]["clients"]) == (
        True,
        "fail-open",
        0,
    )


def test_readiness_tells_what_is_wrong_behind(gateway, feed):
    feed.board(
        source={"url": "nats://x", "state": "stale", "since": 1},
        breakers=[{"rule": "r", "state": "open"}, {"rule": "s", "state": "closed"}],
    )
    ready = gateway.json("/health/ready")
    assert (ready["processor"], ready["source"]["state"]) == ("live", "stale")
    assert [breaker["rule"] for breaker in ready["breakers"]] == ["r"]


def test_a_board_that_cannot_be_read_harms_nobody(gateway, feed):
    for board in (b"{oops", b"[1]", b'{"source":5,"breakers":[],"heartbeatNs":0}', b""):
        feed.writer.set_board(board)
        assert gateway.get("/health/ready")[0] == 200
        assert gateway.get("/api/rules")[0] == 200


async def test_metrics_count_what_clients_got(gateway, feed):
    client = await WsClient.connect(gateway.ws)
    await client.subscribe(fromSeq=1)
    await client.until("trades")
    values: dict[str, float] = {}
    while values.get("tickcast_gateway_trades_total") != 25:
        status, body, headers = gateway.get("/metrics")
        assert (status, headers["content-type"].partition(";")[0]) == (200, "text/plain")
        lines = [line.rpartition(" ") for line in body.decode().splitlines() if not line.startswith("#")]
        values = {name: float(value) for name, _, value in lines}
    assert values['tickcast_gateway_clients{form="v1"}'] == 1
    assert values['tickcast_gateway_latency_seconds_count{since="ingest"}'] == 25
    assert values["tickcast_gateway_gaps_total"] == 0
    await client.close()


def test_the_api_describes_itself(gateway):
    schema = gateway.json("/schema/openapi.json")
    assert schema == gateway.json("/schema")
    paths = set(schema["paths"])
    expected = {"trades", "trades/{seq}", "trades/{seq}/why", "snapshot", "instruments", "rules", "status"}
    assert {f"/api/{path}" for path in expected} | {"/health", "/health/ready", "/metrics"} <= paths
    page = schema["paths"]["/api/trades"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert "Trades" in json.dumps(page)


def test_the_dashboard_or_a_page_that_says_it_is_not_built(gateway):
    status, body, headers = gateway.get("/")
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["x-content-type-options"] == "nosniff"
    if status == 404:
        assert b"The dashboard is not built" in body
        return
    assert status == 200
    assert headers["cache-control"] == "no-cache"
    assert gateway.get("/", if_none_match=headers["etag"])[0] == 304
    assert gateway.get("/nowhere.js")[0] == 404


def test_answers_that_change_are_not_kept(gateway):
    for path in ("/health", "/api/trades", "/api/status", "/metrics"):
        assert gateway.get(path)[2]["cache-control"] == "no-store"


def test_paths_do_not_leave_the_dashboard(gateway):
    for path in ("/../config.py", "/%2e%2e/config.py", "/assets/../../config.py", "//etc/passwd"):
        assert gateway.get(path)[0] in (400, 404)


async def test_pages_of_others_are_turned_away(gateway):
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": f"http://evil.example:{gateway.port}", "Host": f"evil.example:{gateway.port}"},
    ):
        assert gateway.get("/api/trades", **headers)[0] == 403
    with pytest.raises(InvalidStatus) as refused:
        await WsClient.connect(gateway.ws, Origin="https://evil.example")
    assert refused.value.response.status_code == 403
    client = await WsClient.connect(gateway.ws, Origin=gateway.http)
    assert (await client.receive())["type"] == "hello"
    await client.close()


async def test_a_token_is_asked_for_where_one_is_set(programs, feed, run_dir):
    gateway = Gateway.start(programs, run_dir, TICKCAST_WEB_AUTH_TOKEN="s3cret")
    assert gateway.get("/health")[0] == 200
    assert gateway.get("/api/trades")[0] == 401
    assert gateway.get("/api/trades", Authorization="Bearer s3cret")[0] == 200
    _, _, headers = gateway.get("/?token=s3cret")
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert gateway.get("/api/trades", Cookie=cookie.partition(";")[0])[0] == 200
    told = await WsClient.connect(gateway.ws)
    assert (await told.closed())[0] == 4501
    with pytest.raises(InvalidStatus) as refused:
        await WsClient.connect(gateway.ws, subprotocol=None)
    assert refused.value.response.status_code == 401
    client = await WsClient.connect(gateway.ws, Authorization="Bearer s3cret")
    assert (await client.receive())["type"] == "hello"
    await client.close()


async def test_other_subprotocols_are_turned_away_politely(gateway):
    binary = await WsClient.connect(gateway.ws, subprotocol="tickcast.v2.json")
    code, reason = await binary.closed()
    assert code == 4502
    assert "tickcast.v1.json" in reason
    with pytest.raises(InvalidStatus) as refused:
        await WsClient.connect(gateway.ws, subprotocol="soap")
    assert refused.value.response.status_code == 400


async def test_plain_granian_on_a_public_address_lets_nobody_in_without_a_word(programs, feed, run_dir):
    gateway = Gateway.start_granian(programs, run_dir, "--host", "0.0.0.0")
    status, body, _ = gateway.get("/api/trades")
    assert status == 403
    assert b"--insecure-public" in body
    with pytest.raises(InvalidStatus):
        await WsClient.connect(gateway.ws)
    opened = Gateway.start_granian(programs, run_dir, "--host", "0.0.0.0", TICKCAST_WEB_INSECURE_PUBLIC="true")
    assert opened.get("/api/trades")[0] == 200


def test_the_dashboard_comes_compressed_and_under_a_strict_policy(gateway):
    status, page, headers = gateway.get("/")
    if status == 404:
        pytest.skip("the dashboard is not built")
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    script = re.search(r'src="\./(assets/[^"]+\.js)"', page.decode())
    assert script is not None
    plain = gateway.get(f"/{script[1]}")
    assert plain[2]["cache-control"] == "public, max-age=31536000, immutable"
    assert "content-encoding" not in plain[2]
    squeezed = gateway.get(f"/{script[1]}", Accept_Encoding="gzip")
    assert gzip.decompress(squeezed[1]) == plain[1]
    best = gateway.get(f"/{script[1]}", Accept_Encoding="gzip, br")
    assert (best[2]["content-encoding"], best[2]["vary"]) == ("br", "accept-encoding")
    assert len(best[1]) < len(squeezed[1]) < len(plain[1])
    assert gateway.get(f"/{script[1]}", Accept_Encoding="br;q=0, gzip;q=0")[1] == plain[1]
    assert len({answer[2]["etag"] for answer in (plain, squeezed, best)}) == 3


def test_refused_trades_are_found_counted_and_opened_by_their_id(gateway, feed):
    found = gateway.json("/api/search?status=INVALID&limit=10")
    assert (found["seqs"], found["rules"]) == ([20, 10], ["near_vwap", "near_vwap"])
    assert gateway.json("/api/search?instrument=SYM1&before=12")["seqs"] == [11, 6, 1]
    counts = gateway.json("/api/rejects")
    assert (counts["trades"], counts["rejects"], counts["rules"]) == (25, 2, [{"name": "near_vwap", "count": 2}])
    assert [(row["name"], sum(row["counts"])) for row in counts["reasons"]] == [("Too far", 2)]
    assert gateway.json("/api/rejects?rule=screen")["rejects"] == 0
    why = gateway.json(f"/api/trades/id/{found['trades'][0]['tradeId']}")
    assert (why["seq"], why["rules"]) == (20, ["near_vwap"])
    assert gateway.get("/api/trades/id/" + "0" * 31 + "x")[0] == 404
    assert gateway.get("/api/search?status=valid")[0] == 400
    assert gateway.json("/api/stages?newest=5")["trades"] == 5


def test_activity_adds_up_each_instrument(gateway, feed):
    found = gateway.json("/api/activity")
    assert (found["complete"], found["windowS"], found["head"]) == (True, 1200, 25)
    assert sorted(found["instruments"]) == [f"SYM{n}" for n in range(5)]
    assert (sum(found["trades"]), sum(found["rejects"])) == (23, 2)
    assert all(int(volume) > 0 for volume in found["volume"])
    assert gateway.get("/api/activity?window_s=0")[0] == 400
