"""Strings of the shapes that secrets have: keys, tokens of uploads, callers and callbacks, JWTs."""

from __future__ import annotations

from string import ascii_letters, digits

from hypothesis import strategies as st

TAILS = st.text(ascii_letters + digits + "_-", min_size=20, max_size=60)

SECRETS = st.one_of(
    TAILS.map("sk-{}".format),
    TAILS.map("sk-evo-{}".format),
    TAILS.map("evup_{}".format),
    TAILS.map("evm_{}".format),
    TAILS.map("evc_{}".format),
    st.builds("eyJ{}.eyJ{}.{}".format, TAILS, TAILS, TAILS),
)
