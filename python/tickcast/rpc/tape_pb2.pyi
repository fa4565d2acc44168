from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATUS_UNSPECIFIED: _ClassVar[Status]
    STATUS_VALID: _ClassVar[Status]
    STATUS_INVALID: _ClassVar[Status]

class Mode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODE_UNSPECIFIED: _ClassVar[Mode]
    MODE_TAPE: _ClassVar[Mode]
    MODE_LATEST: _ClassVar[Mode]
STATUS_UNSPECIFIED: Status
STATUS_VALID: Status
STATUS_INVALID: Status
MODE_UNSPECIFIED: Mode
MODE_TAPE: Mode
MODE_LATEST: Mode

class SubscribeRequest(_message.Message):
    __slots__ = ("instruments", "status", "from_seq", "epoch", "mode", "max_rate_hz", "snapshot", "strict", "stages", "why")
    INSTRUMENTS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    FROM_SEQ_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    MAX_RATE_HZ_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    STRICT_FIELD_NUMBER: _ClassVar[int]
    STAGES_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    instruments: _containers.RepeatedScalarFieldContainer[str]
    status: _containers.RepeatedScalarFieldContainer[Status]
    from_seq: int
    epoch: str
    mode: Mode
    max_rate_hz: float
    snapshot: bool
    strict: bool
    stages: bool
    why: bool
    def __init__(self, instruments: _Optional[_Iterable[str]] = ..., status: _Optional[_Iterable[_Union[Status, str]]] = ..., from_seq: _Optional[int] = ..., epoch: _Optional[str] = ..., mode: _Optional[_Union[Mode, str]] = ..., max_rate_hz: _Optional[float] = ..., snapshot: _Optional[bool] = ..., strict: _Optional[bool] = ..., stages: _Optional[bool] = ..., why: _Optional[bool] = ...) -> None: ...

class Frame(_message.Message):
    __slots__ = ("hello", "subscribed", "trades", "snapshot", "gap", "status", "heartbeat", "why")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    SUBSCRIBED_FIELD_NUMBER: _ClassVar[int]
    TRADES_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    subscribed: Subscribed
    trades: bytes
    snapshot: bytes
    gap: Gap
    status: SourceStatus
    heartbeat: Heartbeat
    why: bytes
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., subscribed: _Optional[_Union[Subscribed, _Mapping]] = ..., trades: _Optional[bytes] = ..., snapshot: _Optional[bytes] = ..., gap: _Optional[_Union[Gap, _Mapping]] = ..., status: _Optional[_Union[SourceStatus, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., why: _Optional[bytes] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("epoch", "seq", "oldest", "heartbeat_ms", "instruments", "reasons", "enrichments", "server", "rules", "rule_sets", "rule_set", "volume_scale", "volume_scales")
    class VolumeScalesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    OLDEST_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_MS_FIELD_NUMBER: _ClassVar[int]
    INSTRUMENTS_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    ENRICHMENTS_FIELD_NUMBER: _ClassVar[int]
    SERVER_FIELD_NUMBER: _ClassVar[int]
    RULES_FIELD_NUMBER: _ClassVar[int]
    RULE_SETS_FIELD_NUMBER: _ClassVar[int]
    RULE_SET_FIELD_NUMBER: _ClassVar[int]
    VOLUME_SCALE_FIELD_NUMBER: _ClassVar[int]
    VOLUME_SCALES_FIELD_NUMBER: _ClassVar[int]
    epoch: str
    seq: int
    oldest: int
    heartbeat_ms: int
    instruments: _containers.RepeatedScalarFieldContainer[str]
    reasons: _containers.RepeatedScalarFieldContainer[str]
    enrichments: _containers.RepeatedCompositeFieldContainer[Enrichment]
    server: str
    rules: _containers.RepeatedScalarFieldContainer[str]
    rule_sets: _containers.RepeatedScalarFieldContainer[str]
    rule_set: str
    volume_scale: int
    volume_scales: _containers.ScalarMap[str, int]
    def __init__(self, epoch: _Optional[str] = ..., seq: _Optional[int] = ..., oldest: _Optional[int] = ..., heartbeat_ms: _Optional[int] = ..., instruments: _Optional[_Iterable[str]] = ..., reasons: _Optional[_Iterable[str]] = ..., enrichments: _Optional[_Iterable[_Union[Enrichment, _Mapping]]] = ..., server: _Optional[str] = ..., rules: _Optional[_Iterable[str]] = ..., rule_sets: _Optional[_Iterable[str]] = ..., rule_set: _Optional[str] = ..., volume_scale: _Optional[int] = ..., volume_scales: _Optional[_Mapping[str, int]] = ...) -> None: ...

class Enrichment(_message.Message):
    __slots__ = ("name", "unit")
    NAME_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    name: str
    unit: str
    def __init__(self, name: _Optional[str] = ..., unit: _Optional[str] = ...) -> None: ...

class Subscribed(_message.Message):
    __slots__ = ("from_seq", "snapshot", "mode")
    FROM_SEQ_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    from_seq: int
    snapshot: bool
    mode: Mode
    def __init__(self, from_seq: _Optional[int] = ..., snapshot: _Optional[bool] = ..., mode: _Optional[_Union[Mode, str]] = ...) -> None: ...

class Gap(_message.Message):
    __slots__ = ("to", "why")
    FROM_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    to: int
    why: str
    def __init__(self, to: _Optional[int] = ..., why: _Optional[str] = ..., **kwargs) -> None: ...

class SourceStatus(_message.Message):
    __slots__ = ("source", "state", "since_ns")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SINCE_NS_FIELD_NUMBER: _ClassVar[int]
    source: str
    state: str
    since_ns: int
    def __init__(self, source: _Optional[str] = ..., state: _Optional[str] = ..., since_ns: _Optional[int] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("seq",)
    SEQ_FIELD_NUMBER: _ClassVar[int]
    seq: int
    def __init__(self, seq: _Optional[int] = ...) -> None: ...

class SnapshotRequest(_message.Message):
    __slots__ = ("instruments",)
    INSTRUMENTS_FIELD_NUMBER: _ClassVar[int]
    instruments: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, instruments: _Optional[_Iterable[str]] = ...) -> None: ...

class SnapshotResponse(_message.Message):
    __slots__ = ("hello", "snapshot")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    snapshot: bytes
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., snapshot: _Optional[bytes] = ...) -> None: ...

class JudgeRequest(_message.Message):
    __slots__ = ("tick",)
    TICK_FIELD_NUMBER: _ClassVar[int]
    tick: bytes
    def __init__(self, tick: _Optional[bytes] = ...) -> None: ...

class JudgeResponse(_message.Message):
    __slots__ = ("trades",)
    TRADES_FIELD_NUMBER: _ClassVar[int]
    trades: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, trades: _Optional[_Iterable[str]] = ...) -> None: ...

class Range(_message.Message):
    __slots__ = ("epoch", "oldest", "newest")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    OLDEST_FIELD_NUMBER: _ClassVar[int]
    NEWEST_FIELD_NUMBER: _ClassVar[int]
    epoch: str
    oldest: int
    newest: int
    def __init__(self, epoch: _Optional[str] = ..., oldest: _Optional[int] = ..., newest: _Optional[int] = ...) -> None: ...
