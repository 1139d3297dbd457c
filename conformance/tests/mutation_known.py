"""What is known about the models and their flaws that no run shows: reasons, for each role.

The lists have to be exact. A flaw that is caught is no survivor any more, and a case that applies
to the model again does not stay here.
"""

from __future__ import annotations

SURVIVORS: dict[str, dict[str, str]] = {
    "worker": {
        "cls-stop-signal-kills": "a signal cannot be sent over a connection: CLS-011 is api,"
        " not wire",
    },
    "client": {
        "dos-unbounded-control": "1 MiB of PONGs is out of reach: the budget for PINGs (DOS-001)"
        " ends the connection first",
        "frm-accepts-zero-id": "RID-004 refuses the id with the same code one step later",
    },
}
"""Flaws that no case finds, each with the reason."""

NEEDS_A_QUICK_MACHINE: dict[str, dict[str, str]] = {
    "worker": {
        "dos-no-refusal-budget": "the flood is 100,000 refusals in 10 s, by judge and worker"
        " together",
    },
    "client": {},
}
"""Flaws that leave their case INCONCLUSIVE, which is no pass either, where time is short."""

NOT_FOR_THE_MODEL: dict[str, dict[str, str]] = {
    "worker": {
        "CAN-004/handlers-that-outlive-connections": "it may have too many handlers to start them"
        " all",
        "MSG-003/open-too-large": "none of its frames can carry a message above its limit",
        **dict.fromkeys(
            (
                *("SEC-001/alpn-h2", "SEC-001/no-alpn", "SEC-001/plaintext", "SEC-001/tls-1-2"),
                *("SEC-002/no-certificate", "SEC-002/unknown-certificate"),
            ),
            "it speaks plain TCP here; test_tls.py judges it over TLS",
        ),
    },
    "client": {},
}
"""Cases that are not applicable to the model."""
