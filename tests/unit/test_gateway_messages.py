"""What clients say: read, or refused with words that help."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tickcast.gateway import messages
from tickcast.gateway.messages import Ping, Subscribe, Tick, Unsubscribe, WrongMessageError, parse


def refused(text: str | bytes) -> WrongMessageError:
    with pytest.raises(WrongMessageError) as caught:
        parse(text)
    return caught.value


def test_subscribe_alone_means_everything_live_with_a_snapshot():
    message = parse('{"type":"subscribe"}')
    assert isinstance(message, Subscribe)
    assert (message.instruments, message.statuses(), message.from_seq, message.epoch) == (None, None, None, None)
    assert message.snapshot


def test_subscribe_names_instruments_statuses_and_place():
    message = parse(
        '{"type":"subscribe","id":"a","instruments":["AAPL"],"status":["INVALID","UNKNOWN"],"fromSeq":7,'
        '"epoch":"00ff","snapshot":false,"maxRateHz":5,"laterField":{}}'
    )
    assert isinstance(message, Subscribe)
    assert (message.id, message.instruments, message.statuses()) == ("a", ["AAPL"], [2, 0])
    assert (message.from_seq, message.epoch, message.snapshot) == (7, "00ff", False)


def test_one_status_needs_no_list():
    message = parse('{"type":"subscribe","status":"VALID"}')
    assert isinstance(message, Subscribe)
    assert message.statuses() == [1]


def test_a_tick_goes_on_as_it_came_whatever_is_wrong_with_it():
    message = parse('{"type":"tick","id":3,"instrumentId":"AAPL","price":1.50,"volume":"9007199254740993"}')
    assert isinstance(message, Tick)
    assert message.payload() == '{"instrumentId":"AAPL","price":1.50,"volume":"9007199254740993"}'
    odd = parse('{"type":"tick","instrumentId":7,"price":"x"}')
    assert isinstance(odd, Tick)
    assert odd.payload() == '{"instrumentId":7,"price":"x"}'


def test_pong_gives_back_any_t_and_the_clock():
    for t in ("1731.25", '"x"', "null", "[1,2]"):
        message = parse(f'{{"type":"ping","t":{t}}}')
        assert isinstance(message, Ping)
        pong = json.loads(messages.pong(bytes(message.t)))
        assert pong["t"] == json.loads(t)
        assert int(pong["serverNs"]) > 1_700_000_000 * 10**9


def test_unsubscribe_has_an_id_or_none():
    message = parse('{"type":"unsubscribe","id":5}')
    assert isinstance(message, Unsubscribe)
    assert message.id == 5


@pytest.mark.parametrize(
    ("text", "code", "words", "request_id"),
    [
        ("nonsense", "malformed", "JSON", None),
        ("[1]", "malformed", "JSON object", None),
        ('"subscribe"', "malformed", "JSON object", None),
        ("[" * 100_000, "malformed", "JSON", None),
        (b"\xff\xfe", "malformed", "JSON", None),
        ("{}", "unknown", "subscribe, unsubscribe", None),
        ('{"type":"fly","id":4}', "unknown", "'fly'", 4),
        ('{"type":"subscribe","id":"q","fromSeq":0}', "malformed", "fromSeq: must be from 1, was 0", "q"),
        ('{"type":"subscribe","fromSeq":-5}', "malformed", "was -5", None),
        ('{"type":"subscribe","fromSeq":"7"}', "malformed", "$.fromSeq", None),
        ('{"type":"subscribe","fromSeq":99999999999999999999}', "malformed", "fromSeq", None),
        ('{"type":"subscribe","instruments":"AAPL","id":1}', "malformed", "$.instruments", 1),
        ('{"type":"subscribe","status":["GOOD"]}', "malformed", "$.status", None),
        ('{"type":"subscribe","mode":"fast"}', "malformed", "$.mode", None),
        ('{"type":"ack"}', "malformed", "seq", None),
    ],
)
def test_refusals_name_field_and_value_and_carry_the_id(text, code, words, request_id):
    wrong = refused(text)
    assert (wrong.code, wrong.request) == (code, request_id)
    assert words in str(wrong)


def test_too_many_instruments_are_refused():
    names = json.dumps([f"I{n}" for n in range(10_001)])
    assert "at most 10000" in str(refused(f'{{"type":"subscribe","instruments":{names}}}'))


@given(st.one_of(st.text(), st.binary()))
def test_nothing_that_a_client_sends_breaks_the_parser(text):
    try:
        parse(text)
    except WrongMessageError as wrong:
        assert json.loads(messages.error(wrong.code, str(wrong), wrong.request))["type"] == "error"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(["id", "instruments", "status", "fromSeq", "epoch", "mode", "snapshot", "t", "price", "seq"])
kinds = st.sampled_from(["subscribe", "unsubscribe", "tick", "ping", "ack", "other"])


@given(kinds, st.dictionaries(fields, json_values))
def test_any_field_of_any_type_is_read_or_refused(kind, extra):
    try:
        parse(json.dumps({"type": kind, **extra}))
    except WrongMessageError as wrong:
        assert wrong.code in ("malformed", "unknown")


@given(st.one_of(st.text(), st.builds(json.dumps, json_values)))
def test_a_plain_refusal_is_always_a_trade(text):
    trade = json.loads(messages.plain_refusal(text, "the processor is away"))
    assert set(trade) == {"tradeId", "instrumentId", "price", "volume", "timestampNs", "status", "reason"}
    assert (trade["tradeId"], trade["status"]) == ("", "INVALID")
    assert trade["reason"] == "Processing error: the processor is away"
    assert isinstance(trade["price"], int | float)


def test_a_plain_refusal_gives_back_what_can_be_read():
    trade = json.loads(messages.plain_refusal('{"instrumentId":"AAPL","price":1.5,"volume":"12"}', "x"))
    assert (trade["instrumentId"], trade["price"], trade["volume"]) == ("AAPL", 1.5, "12")
