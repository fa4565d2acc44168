"""Puts the jars of a Kafka broker into the cache, for tests, and prints where they are. Needs Java 17 and Maven.

Nothing is installed: the jars come from Maven Central into ``.cache`` (or ``$TICKCAST_CACHE_DIR``), once. A formatted
data folder lies beside them, so that starting a broker need not start a second Java first.
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
POM = ROOT / "scripts" / "kafka-broker.xml"
CLUSTER_ID = "dGlja2Nhc3QtdGVzdHMtMQ"
LOGGING = """\
rootLogger.level = INFO
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d %p %m (%c)%n
"""
OLDEST_JAVA = 17


class Unavailable(Exception):
    """There is no Kafka here, and none can be had; says what is missing."""


def home() -> Path:
    """Return the folder of this version's broker."""
    version = re.search(r"<kafka\.version>([\d.]+)<", POM.read_text("utf-8"))
    assert version is not None
    return Path(os.environ.get("TICKCAST_CACHE_DIR", ROOT / ".cache")).absolute() / f"kafka-{version[1]}"


def java(*options: str) -> list[str]:
    """Return the command of a short-lived Java with the broker's classes."""
    jars = ":".join(sorted(map(str, (home() / "libs").glob("*.jar"))))
    quick = ["-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Xlog:cds=off"]
    logging = f"-Dlog4j2.configurationFile={home() / 'log4j2.properties'}"
    return ["java", *quick, logging, *options, "-cp", jars]


def properties(port: int, controller_port: int, data: Path, more: dict[str, str]) -> str:
    """Return ``server.properties`` of a broker that is its own controller, on loopback."""
    settings = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "log.dirs": str(data),
        # One node: every internal topic has one replica; few partitions start faster.
        "offsets.topic.num.partitions": "1",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.num.partitions": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.num.partitions": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "num.partitions": "4",
        "auto.create.topics.enable": "false",
        "num.network.threads": "2",
        "num.io.threads": "2",
        "log.cleaner.dedupe.buffer.size": "8388608",
        **more,
    }
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def install() -> Path:
    """Return the broker's folder, filling it first where need be.

    Raises:
        Unavailable: Java or Maven is missing, or the jars can't be had.
    """
    folder = home()
    if (folder / "done").exists():
        return folder
    check_tools()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / ".kafka.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            fill(folder)
    return folder


def check_tools() -> None:
    """Look for Java and Maven."""
    for tool in ("java", "mvn"):
        if shutil.which(tool) is None:
            raise Unavailable(f"no {tool}: a Kafka broker for the tests needs Java {OLDEST_JAVA} and Maven")
    version = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', version)
    if found is None or int(found[1]) < OLDEST_JAVA:
        raise Unavailable(f"Java {found[1] if found else '?'} is too old, Kafka needs {OLDEST_JAVA}")


def fill(folder: Path) -> None:
    """Bring the jars and format a data folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(POM, folder / "pom.xml")
    print("tickcast: bringing the jars of a Kafka broker for the tests", file=sys.stderr)
    copy = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder / 'libs'}"]
    call(["mvn", "-q", "-B", "-f", str(folder / "pom.xml"), *copy])
    (folder / "log4j2.properties").write_text(LOGGING, "utf-8")
    config = folder / "format.properties"
    config.write_text(properties(1, 2, folder / "formatted", {}), "utf-8")
    call([*java(), "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(config)])
    (folder / "done").touch()


def call(command: list[str]) -> None:
    """Run a tool; what it says is told only where it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"{command[0]} ended with {done.returncode}:\n{done.stdout[-2000:]}")


if __name__ == "__main__":
    try:
        print(install())
    except Unavailable as why:
        print(f"tickcast: no Kafka for the tests: {why}", file=sys.stderr)
        sys.exit(1)
