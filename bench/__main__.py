"""Run all measurements."""

from __future__ import annotations

from bench import cadence, preview, roundtrip, startup

if __name__ == "__main__":
    startup.main()
    cadence.main()
    roundtrip.main()
    preview.main()
