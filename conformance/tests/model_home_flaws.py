"""The flaws of the model worker's call-home end, one per line: name, requirement, what it does."""

from __future__ import annotations

TABLE = """
home-admits-unknown-subjects | P0-001 | answers 202 before it knows whether there is a handler
home-hello-waits-for-output | P0-001 | says HELLO when the first message is ready
home-overload-without-retry-after | P0-001 | refuses without Retry-After
home-shows-wch-fields | P0-001 | hands the fields of the path to the handler
home-any-content-type | P0-001 | takes bodies of any media type
home-any-root | P0-001 | takes the last segment of any path for the subject
home-accepts-any-magic | P0-002 | takes any 16 octets for a preface
home-accepts-other-versions | P0-002 | does not compare the version of the router
home-accepts-any-idle-timeout | P0-002 | takes idle timeouts out of range
home-waits-for-preface | P0-002 | waits for ever for the preface of the router
home-hello-before-preface | P0-002 | says HELLO without waiting for the preface of the router
home-refusal-is-final | P0-002 | gives a stream up when a preface refuses
home-response-before-accept | P0-003 | sends the response without waiting for ACCEPT
home-wrong-token | P0-003 | says HELLO with the octets of the token reversed
home-loses-early-output | P0-003 | drops what the handler sent before ACCEPT
home-reject-spares-handler | P0-004 | lets the handler of a rejected stream run
home-reject-closes | P0-004 | closes the connection on REJECT
home-reject-is-retried | P0-004 | takes REJECT for a failed attempt
home-one-attempt | P0-005 | gives up after the first failed attempt
home-four-attempts | P0-005 | makes four attempts
home-waits-for-accept | P0-005 | waits for ever for ACCEPT
home-forgets-handler | P0-005 | lets the handler run when no attempt is left
home-loss-spares-handler | P0-006 | lets the handler run when the connection is lost behind ACCEPT
home-retries-after-accept | P0-006 | tries a stream again that was accepted
home-error-is-close | P0-007 | ends a failed stream by closing
home-no-deadline | P0-007 | ignores wch-timeout-ms
home-reuses-before-done | P0-008 | takes the terminal for the end, not DONE
home-waits-for-done | P0-008 | waits for ever for DONE
home-closes-behind-terminal | P0-008 | closes right behind the terminal
home-never-reuses | P0-009 | closes after DONE
home-idle-ignores-everything | P0-010 | ignores what comes while idle
home-idle-is-strict | P0-010 | closes on STOP and KILL while idle
home-ignores-kill | P0-011 | ignores KILL
home-ignores-stop | P0-011 | does not tell the handler about STOP
home-loses-early-kill | P0-011 | ignores KILL before ACCEPT
home-any-kill-counts | P0-011 | takes any KILL for one of its own stream
home-late-kill-closes | P0-011 | closes on KILL behind the terminal
home-ignores-second-accept | P0-012 | ignores ACCEPT while the stream runs
home-accepts-any-id | P0-012 | does not look at the id of ACCEPT
home-violation-spares-handler | P0-012 | lets the handler run after a violation
home-violation-says-goaway | P0-012 | sends GOAWAY on a violation
home-ignores-unknown-frames | P0-012 | ignores unknown frames
home-no-backpressure | P0-013 | buffers without bound
home-no-write-timeout | P0-013 | waits for ever for a router that does not read
home-no-heartbeat | P0-014 | sends nothing by itself
home-no-pong | P0-014 | does not answer PING
home-no-idle-timeout | P0-014 | never gives a silent router up
home-no-limit | P0-015 | dials as often as it likes
home-waiters-in-reverse | P0-015 | serves the stream first that came last
home-oldest-first | P0-015 | uses the connection first that was idle longest
home-dials-anyone | P0-016 | dials any address
home-resolves-names | P0-016 | takes host names for addresses
home-refuses-after-start | P0-016 | looks at the address after the handler has begun
home-loose-token | P0-017 | does not look at the unused bits of a token
home-any-stream | P0-017 | takes any 32 hexadecimal digits for a stream
home-any-timeout | P0-017 | takes a malformed timeout for none
home-last-field-wins | P0-017 | takes the last of fields that occur twice
home-optional-token | P0-017 | takes a missing token for zeros
home-duplicate-runs | P0-017 | admits a stream that is live
home-duplicate-not-processed | P0-017 | says wmx-not-processed of a stream that is live
home-uses-drained-connection | P0-020 | uses a connection again that drains
"""
