"""Run all measurements."""

from __future__ import annotations

from bench import cadence, callbacks, faults, http, journal, preview, roundtrip, startup, waiting

if __name__ == "__main__":
    startup.main()
    cadence.main()
    roundtrip.main()
    preview.main()
    waiting.main()
    callbacks.main()
    http.main()
    journal.main()
    faults.main()
