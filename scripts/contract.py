"""Writes anew what is made of `proto/`: the contract's descriptors, and the stub of the messages that the package uses.

`python/tickcast/rpc/contract.binpb` is what the server's reflection tells of its services, and what those messages are
made from. Run it after a change in `proto/`; `--check` only tells whether both are current.
"""

import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).parents[1]
CONTRACT = ROOT / "python" / "tickcast" / "rpc" / "contract.binpb"
STUB = ROOT / "python" / "tickcast" / "rpc" / "tape_pb2.pyi"
STUBBED = "tickcast/v1/tape"


def write(out: Path) -> None:
    """Write the descriptors of all files of the contract, and of what they import.

    Raises:
        SystemExit: A file does not compile.
    """
    protos = sorted(str(path.relative_to(ROOT / "proto")) for path in (ROOT / "proto").rglob("*.proto"))
    known = files("grpc_tools").joinpath("_proto")
    if protoc.main(
        ["", f"-I{ROOT / 'proto'}", f"-I{known}", "--include_imports", f"--descriptor_set_out={out}", *protos]
    ):
        sys.exit(f"proto/ does not compile: {protos}")


def write_stub(out: Path) -> None:
    """Write the stub of the messages that the package itself uses.

    Raises:
        SystemExit: The file does not compile.
    """
    with tempfile.TemporaryDirectory() as folder:
        if protoc.main(["", f"-I{ROOT / 'proto'}", f"--pyi_out={folder}", f"{STUBBED}.proto"]):
            sys.exit(f"proto/{STUBBED}.proto does not compile")
        out.write_bytes(Path(folder, f"{STUBBED}_pb2.pyi").read_bytes())


def main() -> int:
    """Write the files, or tell whether they are current."""
    made = {CONTRACT: write, STUB: write_stub}
    if "--check" not in sys.argv:
        for path, make in made.items():
            make(path)
        return 0
    old = []
    with tempfile.TemporaryDirectory() as folder:
        for path, make in made.items():
            fresh = Path(folder, path.name)
            make(fresh)
            if fresh.read_bytes() != path.read_bytes():
                old.append(path.relative_to(ROOT))
    for path in old:
        print(f"{path} is not what proto/ says: run scripts/contract.py", file=sys.stderr)
    return int(bool(old))


if __name__ == "__main__":
    sys.exit(main())
