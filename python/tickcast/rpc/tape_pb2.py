"""The messages of ``tickcast/v1/tape.proto``, made at import from the contract's descriptors.

There is no generated code to run, which would be tied to the release of protobuf that made it; the stub beside this
file is generated (``scripts/contract.py``), for type checkers.
"""

from google.protobuf.message_factory import GetMessageClass

from tickcast.rpc.contract import POOL

DESCRIPTOR = POOL.FindFileByName("tickcast/v1/tape.proto")
for _name, _message in DESCRIPTOR.message_types_by_name.items():
    globals()[_name] = GetMessageClass(_message)
for _enum in DESCRIPTOR.enum_types_by_name.values():
    for _value in _enum.values:
        globals()[_value.name] = _value.number
