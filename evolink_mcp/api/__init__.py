"""EvoLink's HTTP API: one method an endpoint, typed in, typed out; no policy."""
