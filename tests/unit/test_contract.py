"""The contract in `proto/`: what is released stays, what the server tells of itself is current."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorSet

ROOT = Path(__file__).parents[2]
BUF = ROOT / "tests" / "contract" / "node_modules" / ".bin" / "buf"
RELEASED = ROOT / "tests" / "contract" / "released.json"

needs_buf = pytest.mark.skipif(
    not BUF.exists() or shutil.which("node") is None, reason="no buf: npm --prefix tests/contract ci"
)


def buf(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([BUF, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60)


def test_what_reflection_tells_is_current() -> None:
    done = subprocess.run([sys.executable, ROOT / "scripts" / "contract.py", "--check"], check=False, timeout=60)
    assert done.returncode == 0


def test_the_original_contract_is_what_it_was() -> None:
    known = FileDescriptorSet.FromString((ROOT / "python/tickcast/rpc/contract.binpb").read_bytes())
    (original,) = [file for file in known.file if file.name == "market_data.proto"]
    kinds = FieldDescriptorProto.Type
    fields = {
        message.name: [(f.name, f.number, kinds.Name(f.type), f.proto3_optional) for f in message.field]
        for message in original.message_type
    }
    text, double, whole = "TYPE_STRING", "TYPE_DOUBLE", "TYPE_INT64"
    assert fields["RawMarketTick"][:4] == [
        ("instrument_id", 1, text, False),
        ("price", 2, double, False),
        ("volume", 3, whole, False),
        ("timestamp_ns", 4, whole, False),
    ]
    assert fields["ValidatedTrade"][:8] == [
        ("trade_id", 1, text, False),
        ("instrument_id", 2, text, False),
        ("price", 3, double, False),
        ("volume", 4, whole, False),
        ("timestamp_ns", 5, whole, False),
        ("status", 6, "TYPE_ENUM", False),
        ("reason", 7, text, True),
        ("vwap_20m", 8, double, False),
    ]
    assert [(v.name, v.number) for v in original.enum_type[0].value][:3] == [
        ("UNKNOWN", 0),
        ("VALID", 1),
        ("INVALID", 2),
    ]
    (method,) = original.service[0].method[:1]
    assert (original.package, original.service[0].name, method.name) == (
        "marketdata",
        "MarketDataProcessor",
        "ProcessStream",
    )
    assert method.client_streaming
    assert method.server_streaming


@needs_buf
def test_contract_is_linted_and_breaks_nothing_released() -> None:
    for check in (["lint", ROOT / "proto"], ["breaking", ROOT / "proto", "--against", RELEASED]):
        done = buf(*check)
        assert done.returncode == 0, done.stdout + done.stderr


@needs_buf
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("int64 volume = 3;", "int32 volume = 3;"),
        ("double price = 2;", "double price = 9;"),
        ("optional string reason = 7;", "string reason = 7;"),
        ("rpc ProcessStream", "rpc Process"),
        ("  INVALID = 2;", "  REFUSED = 2;"),
    ],
)
def test_a_breaking_change_is_found(tmp_path: Path, old: str, new: str) -> None:
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    changed = tmp_path / "proto" / "market_data.proto"
    assert old in changed.read_text()
    changed.write_text(changed.read_text().replace(old, new))
    done = buf("breaking", tmp_path / "proto", "--against", RELEASED)
    assert done.returncode == 100
    assert "market_data.proto" in done.stdout
