"""The mutations of the model worker on the path http: each breaks one rule at one guard.

The rules of `model_flaws` hold here too.
"""

from __future__ import annotations

from model_flaws import read_table

_TABLE = """
http-first-range-wins | P1-001 | takes the first media type of Accept, whatever the weights
http-ignores-zero-weight | P1-001 | takes a type of weight 0 when nothing else is left
http-bad-weight-counts | P1-001 | takes a member with q=1.5 as if it had no q
http-type-in-exact-case | P1-001 | compares media types by case
http-widest-range-wins | P1-001 | gives a type the highest weight of all ranges that match it
http-alias-is-not-kept | P1-001 | answers an alias with the format's own type
http-no-406 | P1-001 | answers SSE when nothing is acceptable
http-may-be-stored | P1-002 | sends no cache-control
http-proxy-may-buffer | P1-002 | sends no x-accel-buffering
http-does-not-vary | P1-002 | sends no vary
http-charset-everywhere | P1-002 | adds charset=utf-8 to NDJSON
http-says-a-coding | P1-002 | says content-encoding: identity
http-head-with-item | P1-003 | sends status and fields together with the first item
http-gathers-items | P1-004 | hands items to the kernel every 50 ms
http-last-item-late | P1-004 | holds each item back until the next one is there
http-sse-crlf | P1-005 | ends the lines of SSE with CRLF
http-sse-splits-json | P1-005 | sends JSON with line ends as several data lines
http-sse-other-order | P1-005 | sends event before id
http-sse-no-space | P1-005 | leaves out the space behind data: when there is nothing behind it
http-sse-bom | P1-005 | begins with a byte order mark
http-ndjson-last-lf | P1-006 | leaves out the last LF
http-ndjson-splits-json | P1-006 | lets LF stand inside of an item
http-ndjson-more-members | P1-006 | adds a time to every item
http-binary-preface | P1-007 | begins the binary format with a preface
http-binary-from-one | P1-007 | numbers the frames from 1
http-binary-other-id | P1-007 | draws a request id although request-id is a UUID
http-binary-large-frames | P1-007 | does not split messages
http-binary-no-trailers | P1-007 | sends no trailers
http-json-as-base64 | P1-008 | sends JSON items as base64
http-octets-as-json | P1-008 | sends an item of application/octet-stream as JSON when it is some
http-json-as-floats | P1-008 | reads JSON and writes it again, with numbers of 64 bits
http-url-safe-base64 | P1-008 | uses the other alphabet of base64
http-seq-from-one | P1-009 | numbers the items from 1
http-done-counts-itself | P1-009 | counts done as an item
http-never-ends | P1-010 | leaves the body open behind the terminal event
http-two-terminals | P1-010 | sends done twice
http-failure-without-terminal | P1-010 | ends the body normally without an error event
http-failure-has-done | P1-011 | sends done where the handler failed
http-failure-counts-none | P1-011 | says 0 items in every error event
http-failure-is-status | P1-011 | answers 500 when the handler fails before an item
http-panic-tells | P1-011 | tells what is inside when a handler panics
http-failure-not-processed | P1-011 | says not_processed in an error event
http-no-chunks | P1-012 | ends a body of HTTP/1.1 with the connection instead of a last chunk
http-ignores-disconnect | P1-013 | lets the handler run when the connection ends
http-ignores-reset | P1-013 | lets the handler run when the stream is reset
http-sees-end-when-writing | P1-013 | notices a lost connection only when it writes
http-no-heartbeat | P1-014 | sends no heartbeats
http-one-heartbeat | P1-014 | sends one heartbeat and no more
http-slow-heartbeat | P1-014 | lets three times wmx-heartbeat-ms pass
http-heartbeat-inside | P1-014 | lets a heartbeat stand between the frames of an item
http-root-is-free | P1-015 | looks at the last segment of the path only
http-get-is-served | P1-015 | serves GET as POST
http-405-without-allow | P1-015 | answers 405 without allow
http-refusal-without-field | P1-015 | refuses without wmx-not-processed
http-refusal-in-text | P1-015 | refuses with a text instead of an error object
http-accepts-bad-timeout | P1-015 | takes a malformed wmx-timeout-ms for 0
http-accepts-bad-heartbeat | P1-015 | takes any wmx-heartbeat-ms
http-accepts-bad-header | P1-015 | hands over headers that PAY-005 does not allow
http-any-content-type | P1-015 | takes any Content-Type
http-any-coding | P1-015 | takes any Content-Encoding
http-needs-content-type | P1-015 | refuses a request without a Content-Type
http-accepts-no-json | P1-015 | runs the handler with a body that is no JSON
http-accepts-nan | P1-015 | takes NaN for JSON
http-parameters-are-400 | P1-015 | answers 400 when the handler finds its parameters wrong
http-refused-runs | P1-015 | starts the handler, and then refuses
http-no-limit | P1-015 | admits any number of requests
http-overloaded-for-ever | P1-015 | answers OVERLOADED without retry-after
http-wrong-order | P1-015 | looks at the format before the fields
http-no-deadline | P1-016 | ignores wmx-timeout-ms
http-deadline-cuts | P1-016 | ends the body at the deadline, without a terminal event
http-deadline-is-cancelled | P1-016 | says CANCELLED at the deadline
http-deadline-lets-run | P1-016 | lets the handler run behind the deadline
http-buffers-all | P1-017 | buffers what the client does not read
http-buffers-4-mib | P1-017 | buffers 4 MiB of a response
http-reads-any-body | P1-018 | has no limit for the body
http-reads-body-first | P1-018 | reads a body that is too large to its end before it answers
http-any-fields | P1-018 | has no limit for the fields
http-fields-at-leisure | P1-018 | gives the fields any time
http-resumes | P1-019 | ignores last-event-id
http-drops-trace | P1-023 | does not hand traceparent over
http-bad-trace-fails | P1-023 | refuses an invalid traceparent
http-closes | P1-024 | closes the connection behind every response
"""

HTTP_FLAWS = read_table(_TABLE)
