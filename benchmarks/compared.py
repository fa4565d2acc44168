"""Tables and plots of what `compare.py` measured."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contenders import CONTENDERS

Run = dict[str, Any]

CAVEATS = """
- One run, {seconds:g} s a point{median}: read factors, not digits. The cores are virtual; loopback; no TLS.
- Server, nats-server and load client share the cores; nothing is pinned but tickcast's gateway, which keeps to
  one of them (`web.pin=true`). A server with several threads (Go) uses
  both cores, Python and Node.js one each process; CPU-s per million deliveries shows what it costs.
- Ticks come from core NATS, one a message. CPU time and memory are those of the server's own processes; for NATS itself
  they include taking the ticks in.
- The load client looks for arrivals every 0.5 ms and adds up to as much to each latency. JSON: latency of each trade;
  `.bin`: of the oldest of each frame.
- "Held": p99 < 50 ms, nothing missing, doubled or reordered, all clients connected. Where a point is not held it is
  measured once more, and the better of the two stands. A series ends at the first rate that is not held; the steps are
  coarse, so the true edge lies between the last that is and the first that is not.
- Memory per client: growth of memory of their own (no shared mappings) from before the first client to the end of the
  measurement, divided by the clients; so it includes what a server keeps per trade, such as windows.
- Stalled clients read nothing after the handshake; throttled ones a tenth of the stream's bytes. Most of what they
  don't read is in the kernel's buffers in a run this short.
"""


def report(result: dict[str, Any]) -> str:
    """Return everything as Markdown."""
    machine, servers = result["machine"], result["servers"]
    there = [c for c in CONTENDERS if c.key in servers]
    lines = [
        "# tickcast beside others",
        "",
        f"{machine['date']}, {machine['cores']} cores ({machine['cpu']}), Python {machine['python']}. "
        "`python benchmarks/compare.py --write`",
        "",
        "| server | what it does | versions |",
        "|---|---|---|",
    ]
    for c in there:
        absent = servers[c.key].get("missing")
        lines.append(f"| {c.name} | {c.what} | {f'not measured: {absent}' if absent else servers[c.key]['version']} |")
    lines += ["", "## 500 clients, everything to all: the highest rate held", ""]
    lines += _table(_edges(servers))
    lines += ["", "![latency over rate](compare_latency.svg)", "", "![CPU time over rate](compare_cpu.svg)"]
    lines += ["", "### Each rate", "", *_runs(servers, lambda s: s.get("rates", []))]
    lines += ["", "## More clients, 100 ticks/s", "", *_runs(servers, lambda s: s.get("crowds", []))]
    lines += ["", "![latency over clients](compare_crowds.svg)"]
    lines += ["", "## Slow clients: what the other 450 notice", "", *_slow(servers)]
    echo = servers.get("original-echo", {}).get("echo_per_s")
    if echo:
        lines += [
            "",
            f"The original as published answers {echo:.0f} ticks/s through one socket, and broadcasts nothing.",
        ]
    median = f", the median of {result['runs']} by p99" if result["runs"] > 1 else ""
    lines += ["", "## Caveats", CAVEATS.format(seconds=result["seconds"], median=median).rstrip(), ""]
    if result.get("parts"):
        lines[-1:] = ["- Measured in parts, one after the other, while others used the machine in between.", ""]
    return "\n".join(lines)


def _table(rows: list[list[str]]) -> list[str]:
    head, *body = rows
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return lines + ["| " + " | ".join(row) + " |" for row in body]


def _measured(servers: dict[str, Any]) -> list[tuple[str, Run]]:
    return [(c.name, servers[c.key]) for c in CONTENDERS if servers.get(c.key, {}).get("rates")]


def _edges(servers: dict[str, Any]) -> list[list[str]]:
    rows = [
        ["server", "ticks/s", "deliveries/s", "p50 / p99 / p99.9 ms there", "CPU-s per million", "not held: p99 ms"]
    ]
    for name, server in _measured(servers):
        held = [run for run in server["rates"] if run["held"]]
        beyond = [run for run in server["rates"] if not run["held"]]
        after = f"{beyond[-1]['rate']:,.0f}/s: {_p(beyond[-1], 'p99')}" if beyond else "–"
        if not held:
            rows.append([name, f"< {server['rates'][0]['rate']:,.0f}", "–", "–", "–", after])
            continue
        best = held[-1]
        triple = " / ".join(_p(best, key) for key in ("p50", "p99", "p999"))
        cpu = f"{best['cpu_s_per_million']:.2f}"
        rows.append([name, f"**{best['rate']:,.0f}**", f"{best['deliveries_per_s']:,.0f}", triple, cpu, after])
    return rows


def _p(run: Run, key: str) -> str:
    latency = run.get("latency_ms")
    return f"{latency[key]:.1f}" if latency else "none came"


def _runs(servers: dict[str, Any], of: Callable[[Run], list[Run]]) -> list[str]:
    head = ["server", "clients", "ticks/s", "deliveries/s", "p50 ms", "p99 ms", "p99.9 ms", "missing"]
    rows = [[*head, "CPU-s per million", "server cores", "MB per million", "KiB per client", "held"]]
    for name, server in _measured(servers):
        for run in of(server):
            place = [name, f"{run['clients']:,}", f"{run['rate']:,.0f}"]
            if "error" in run:
                rows.append([*place, "–", "–", "–", "–", "–", "–", "–", "–", "–", f"no: {run['error']}"])
                continue
            rows.append(
                [
                    *place,
                    f"{run['deliveries_per_s']:,.0f}",
                    *(_p(run, key) for key in ("p50", "p99", "p999")),
                    f"{run['missing']:,}",
                    f"{run['cpu_s_per_million']:.2f}",
                    f"{run['cpu_cores']:.2f}",
                    f"{run['bytes_per_million'] / 1e6:.0f}",
                    f"{run['kib_per_client']:.0f}",
                    "yes" if run["held"] else "no",
                ]
            )
    return _table(rows)


def _slow(servers: dict[str, Any]) -> list[str]:
    rows = [
        ["server", "ticks/s", "clients", "p50 ms", "p99 ms", "p99.9 ms", "p99 moves by", "missing", "KiB per client"]
    ]
    for name, server in _measured(servers):
        before = None
        for case, run in server["slow"].items():
            place = [name, f"{run['rate']:,.0f}", case]
            if not run.get("latency_ms"):
                rows.append([*place, "–", "–", "–", "–", "–", run.get("error", "none came")])
                continue
            p99 = run["latency_ms"]["p99"]
            moved = f"{(p99 / before - 1) * 100:+.0f} %" if before else "–"
            before = before or p99
            latencies = [_p(run, key) for key in ("p50", "p99", "p999")]
            rows.append([*place, *latencies, moved, f"{run['missing']:,}", f"{run['kib_per_client']:.0f}"])
    return _table(rows)


def write(result: dict[str, Any], folder: Path) -> None:
    """Write figures, report and plots."""
    folder.mkdir(exist_ok=True)
    (folder / "compare.json").write_text(json.dumps(result, indent=1) + "\n")
    (folder / "compare.md").write_text(report(result))
    servers = result["servers"]
    rate, crowd = "ticks/s to 500 clients", "clients, 100 ticks/s"
    plots = [
        Plot("latency", "rates", "rate", rate, _p99, "p99 ms", 50),
        Plot("cpu", "rates", "rate", rate, lambda run: run["cpu_s_per_million"], "CPU-s per million deliveries"),
        Plot("crowds", "crowds", "clients", crowd, _p99, "p99 ms", 50),
    ]
    for plot in plots:
        _draw(plot, servers, folder / f"compare_{plot.name}.svg")


@dataclass(frozen=True)
class Plot:
    """One line a server, both axes logarithmic."""

    name: str
    series: str
    x: str
    x_label: str
    y: Callable[[Run], float]
    y_label: str
    limit: float | None = None


def _p99(run: Run) -> float:
    return float(run["latency_ms"]["p99"])


def _draw(plot: Plot, servers: dict[str, Any], path: Path) -> None:
    import matplotlib as mpl

    mpl.use("svg")
    # The same figures give the same file.
    mpl.rcParams.update({"svg.hashsalt": "tickcast", "svg.fonttype": "none", "font.size": 9})
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    for name, server in _measured(servers):
        runs = [run for run in server[plot.series] if run.get("latency_ms")]
        if runs:
            axes.plot(
                [run[plot.x] for run in runs], [plot.y(run) for run in runs], marker="o", markersize=4, label=name
            )
    if plot.limit is not None:
        axes.axhline(plot.limit, color="grey", linewidth=0.8, linestyle="--")
    axes.set(xscale="log", yscale="log", xlabel=plot.x_label, ylabel=plot.y_label)
    axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
