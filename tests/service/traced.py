"""The server for an operator who collects spans: OpenTelemetry's SDK is set up before it starts.

`SPANS` is the file that the spans go to, one JSON object a line.
"""

from __future__ import annotations

import os
from pathlib import Path

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor

from evolink_mcp.cli import main


def as_line(span: ReadableSpan) -> str:
    return f"{span.to_json(indent=None)}\n"


spans = Path(os.environ["SPANS"]).open("w", encoding="utf-8")  # noqa: SIM115 - until the end
exporter = ConsoleSpanExporter(out=spans, formatter=as_line)
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
main()
