"""The processor's gRPC server. `services.py` is where a service is added, `server.py` what all of them share.

Messages pass as bytes, from gRPC straight into the Rust codecs and back: there is no protobuf object per tick.
"""
