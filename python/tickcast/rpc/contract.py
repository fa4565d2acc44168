"""The contract's descriptors, in a pool of their own: others may have generated code of the same files."""

from importlib.resources import files
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

__all__ = ["POOL", "message_class"]

POOL = DescriptorPool()
"""All files of ``proto/``."""

for _file in FileDescriptorSet.FromString(files("tickcast.rpc").joinpath("contract.binpb").read_bytes()).file:
    POOL.Add(_file)


def message_class(name: str) -> Any:  # noqa: ANN401 (made at run time)
    """Return the class of a message by its full name, such as ``marketdata.RawMarketTick``."""
    return GetMessageClass(POOL.FindMessageTypeByName(name))
