"""Follows ticks whose call or message brings a ``traceparent``, where OpenTelemetry is installed (`tickcast[otel]`).

A span for each batch, with one below it for each stage. A call without the metadata costs nothing but a look for it.
Spans go where the process's tracer provider sends them: ``opentelemetry-instrument`` sets one up from ``OTEL_*``.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

__all__ = ["BatchTrace", "CallTrace", "follow", "follow_tick"]

RPC = {"rpc.system": "grpc"}


class _Traced(msgspec.Struct):
    """A tick in the plain form, as far as it counts here."""

    traceparent: str


def follow_tick(payload: bytes) -> CallTrace | None:
    """Return what follows a client's tick with ``traceparent`` among its fields; None: as `follow`."""
    if b'"traceparent"' not in payload:
        return None
    try:
        traceparent = msgspec.json.decode(payload, type=_Traced).traceparent
    except msgspec.MsgspecError:
        return None
    return follow((("traceparent", traceparent),), "tick", {})


def follow(
    metadata: Iterable[tuple[str, str | bytes]] | None, method: str, attributes: dict[str, str] = RPC
) -> CallTrace | None:
    """Return what follows a call with this metadata; None: it does not ask for it, or there is no OpenTelemetry."""
    carrier = {key: value for key, value in metadata or () if key in ("traceparent", "tracestate")}
    if "traceparent" not in carrier:
        return None
    try:
        from opentelemetry import trace  # noqa: PLC0415 (an extra, and only wanted here)
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415
    except ModuleNotFoundError:
        return None
    parent = TraceContextTextMapPropagator().extract(carrier)
    if not trace.get_current_span(parent).get_span_context().is_valid:
        return None
    return CallTrace(trace.get_tracer("tickcast"), parent, method, attributes)


class CallTrace:
    """Makes the spans of one call."""

    def __init__(self, tracer: Tracer, parent: Context, method: str, attributes: dict[str, str]) -> None:
        self._tracer = tracer
        self._parent = parent
        self._method = method
        self._attributes = attributes

    def batch(self, ticks: int, arrived_ns: int, taken_ns: int) -> BatchTrace:
        """Begin the span of a batch.

        Args:
            ticks: How many ticks it has.
            arrived_ns: When the first of them arrived, ns since the Unix epoch.
            taken_ns: When decoding began; it ends now.
        """
        attributes: dict[str, str | int] = {**self._attributes, "tickcast.ticks": ticks}
        return BatchTrace(self._tracer, self._parent, self._method, attributes, arrived_ns, taken_ns)


class BatchTrace:
    """The span of a batch, and of its stages: each begins where the one before ended."""

    def __init__(  # noqa: PLR0917 (made in one place)
        self,
        tracer: Tracer,
        parent: Context,
        method: str,
        attributes: dict[str, str | int],
        arrived_ns: int,
        taken_ns: int,
    ) -> None:
        from opentelemetry import trace  # noqa: PLC0415 (it is here, see `follow`)

        self._tracer = tracer
        self._span: Span = tracer.start_span(
            method,
            parent,
            kind=trace.SpanKind.SERVER,
            start_time=arrived_ns,
            attributes=attributes,
        )
        self._context = trace.set_span_in_context(self._span)
        self._since_ns = taken_ns
        self.stage("decode")

    def stage(self, name: str, end_ns: int | None = None) -> None:
        """Add the span of a stage that ends now, or ended at a time, ns since the Unix epoch."""
        end_ns = time.time_ns() if end_ns is None else end_ns
        self._tracer.start_span(name, self._context, start_time=self._since_ns).end(end_ns)
        self._since_ns = end_ns

    def end(self) -> None:
        """End the batch's span."""
        self._span.end()
