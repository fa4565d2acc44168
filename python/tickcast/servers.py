"""Lists of servers as they stand in URLs."""

__all__ = ["server_list"]


def server_list(server: str) -> list[str]:
    """Return one URL for each of the comma-separated hosts, each with the user of all."""
    user, at, hosts = server.removeprefix("nats://").rpartition("@")
    return [f"nats://{user}{at}{host}" for host in hosts.split(",")]
