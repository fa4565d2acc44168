"""Writes `python/tickcast/rpc/contract.binpb` anew from `proto/`: what the server's reflection tells of its services.

Run it after a change in `proto/`; `--check` only tells whether the file is current.
"""

import sys
import tempfile
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).parents[1]
CONTRACT = ROOT / "python" / "tickcast" / "rpc" / "contract.binpb"


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


def main() -> int:
    """Write the file, or tell whether it is current."""
    if "--check" not in sys.argv:
        write(CONTRACT)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder, CONTRACT.name)
        write(fresh)
        current = fresh.read_bytes() == CONTRACT.read_bytes()
    if not current:
        print(f"{CONTRACT.relative_to(ROOT)} is not what proto/ says: run scripts/contract.py", file=sys.stderr)
    return int(not current)


if __name__ == "__main__":
    sys.exit(main())
