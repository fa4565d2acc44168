"""The messages of ``tickcast/v1/tape.proto``, made at import from the contract's descriptors.

There is no generated code to run, which would be tied to the release of protobuf that made it; the stub beside this
file is generated (``scripts/contract.py``), for type checkers.
"""

from importlib.resources import files

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

# A pool of its own: others may have generated code of the same files.
_pool = DescriptorPool()
for _file in FileDescriptorSet.FromString(files("tickcast.rpc").joinpath("contract.binpb").read_bytes()).file:
    _pool.Add(_file)
DESCRIPTOR = _pool.FindFileByName("tickcast/v1/tape.proto")
for _name, _message in DESCRIPTOR.message_types_by_name.items():
    globals()[_name] = GetMessageClass(_message)
for _enum in DESCRIPTOR.enum_types_by_name.values():
    for _value in _enum.values:
        globals()[_value.name] = _value.number
