"""The mutations of the model worker: each breaks one rule at one guard.

`requirement` is the rule a killing case has to cite. A flaw whose only effect is another error code
says so in `what`: the suite may grade that as a warning. A flaw logs `flaw reached: NAME` when its
altered guard takes effect for the first time, so that a run that never got there is visible.
"""

from __future__ import annotations

from dataclasses import dataclass

import model_home_flaws


@dataclass(frozen=True, slots=True)
class Flaw:
    """One mutation: its name, the rule it breaks, and what the worker then does."""

    name: str
    requirement: str
    what: str


_TABLE = """
hsk-greets-first | HSK-002 | sends its preface on accept, before the magic came
hsk-answers-bad-magic | HSK-002 | answers a wrong magic with a GOAWAY before it closes
hsk-ignores-bad-magic | HSK-002 | never closes on a wrong magic, nor a silent connection
hsk-only-exact-version | HSK-003 | refuses the offer 1..200: it wants ver_hi to be 1
hsk-selects-highest-offer | HSK-003 | selects the client's ver_hi, even one it does not know
hsk-mismatch-with-settings | HSK-004 | sends SETTINGS behind the refusing preface
hsk-mismatch-without-preface | HSK-004 | closes on a version mismatch without a preface
hsk-accepts-any-version | HSK-004 | goes on with an offer that does not contain version 1
hsk-ignores-header-size | HSK-004 | accepts a preface with another header_size
hsk-any-first-frame | HSK-005 | accepts another frame in front of the client's SETTINGS
hsk-ping-before-settings | HSK-005 | sends a PING before its SETTINGS
hsk-accepts-second-settings | HSK-006 | ignores a second SETTINGS
hsk-sends-settings-twice | HSK-006 | sends its SETTINGS twice
hsk-no-ack | HSK-007 | never sends SETTINGS_ACK
hsk-two-acks | HSK-007 | sends SETTINGS_ACK twice
hsk-late-ack | HSK-007 | sends SETTINGS_ACK 300 ms late, behind other frames
hsk-accepts-second-ack | HSK-007 | ignores a second SETTINGS_ACK
hsk-no-timeout | HSK-008 | waits for ever for the rest of the handshake
hsk-needs-no-ack | HSK-008 | takes the handshake as complete without the client's SETTINGS_ACK
hsk-octets-restart-timeout | HSK-008 | every octet restarts the handshake timeout
hsk-rejects-pipelined | HSK-009 | an OPEN before the client's SETTINGS_ACK is a violation
hsk-no-connection-limit | HSK-011 | has no connection limit
hsk-limit-closes-silently | HSK-011 | closes a surplus connection without GOAWAY
hsk-pending-count-as-connections | HSK-011 | half-open handshakes use up the connection limit
frm-seq-little-endian | FRM-001 | sends seq with its octets reversed
frm-accepts-marker | FRM-002 | accepts any marker
frm-waits-for-payload | FRM-003 | refuses a huge payload_length only behind the payload
frm-accepts-oversize | FRM-003 | reads frames of up to 16 MiB, whatever it announced
frm-large-control | FRM-003 | lets Control and Heartbeat be as large as REQUEST
frm-length-is-32-bit | FRM-003 | reads payload_length modulo 2^32
frm-ignores-unknown-type | FRM-004 | skips unknown types without the ignorable bit
frm-ignores-unknown-control | FRM-004 | skips unknown Control subtypes without the ignorable bit
frm-ignores-heartbeat-subtype | FRM-004 | skips unknown Heartbeat subtypes
frm-refuses-ignorable-type | FRM-005 | closes on an unknown type with bit 7 set
frm-refuses-ignorable-control | FRM-005 | closes on an unknown Control subtype with bit 7 set
frm-refuses-reserved-flags | FRM-006 | closes on flag bits 0x10 to 0x80
frm-accepts-bad-flags | FRM-006 | ignores END_STREAM, MORE, META, ERROR on Control and Heartbeat
frm-pong-with-seq | FRM-007 | sends PONG with seq 1
frm-sends-reserved-flag | FRM-007 | sends RESPONSE with flag bit 0x10
frm-sends-response-subtype | FRM-007 | sends RESPONSE with subtype 1
frm-accepts-control-seq | FRM-007 | accepts a Control frame with a seq
frm-accepts-heartbeat-seq | FRM-007 | accepts a PING or PONG with a seq
frm-accepts-request-subtype | FRM-007 | accepts a REQUEST with a subtype
frm-accepts-zero-id | FRM-008 | accepts the zero id on REQUEST, STOP and KILL
frm-accepts-ones-id | FRM-008 | accepts the all-ones id on REQUEST, STOP, KILL, WINDOW_UPDATE
frm-accepts-id-on-connection-frame | FRM-008 | accepts a request id on SETTINGS, GOAWAY, PING
frm-checks-uuid-version | FRM-009 | refuses ids that are not UUID version 4 or 7
frm-seq-from-one | FRM-010 | numbers the frames of a response from 1
frm-seq-per-connection | FRM-010 | numbers the frames of all responses with one counter
frm-accepts-seq-gap | FRM-010 | does not check the seq of REQUEST
frm-loses-split-header | FRM-011 | forgets a header that comes in two reads
frm-loses-split-payload | FRM-011 | forgets the part of a payload that came in an earlier read
frm-one-frame-per-read | FRM-011 | handles one frame per read; the others wait for more octets
frm-no-grease-setting | FRM-012 | sends no grease setting
frm-dribble-forever | FRM-013 | gives a started frame any time as long as octets dribble in
typ-accepts-response | TYP-001 | ignores a RESPONSE from the client
typ-accepts-end-with-more | TYP-002 | accepts END_STREAM together with MORE
typ-accepts-open-without-meta | TYP-003 | accepts an OPEN without the META flag
typ-accepts-late-meta | TYP-003 | accepts META behind seq 0
typ-accepts-request-error | TYP-004 | ignores ERROR on REQUEST
typ-error-without-end | TYP-004 | sends an error body without END_STREAM, then an empty END_STREAM
typ-meta-mid-stream | TYP-005 | sends trailers in a frame of their own, then an empty END_STREAM
typ-two-terminals | TYP-006 | sends a second, empty terminal
typ-data-after-terminal | TYP-006 | sends a message behind the terminal
typ-no-success-terminal | TYP-006 | ends a successful request without a terminal
pay-accepts-bad-length | PAY-001 | does not check fixed payload lengths
pay-accepts-overrun | PAY-002 | takes what it can of an overrun or truncated metadata block
pay-accepts-large-metadata | PAY-002 | has no limit for meta_length
pay-overrun-is-refusal | PAY-002 | answers broken metadata with INVALID_ARGUMENT instead of closing
pay-refuses-extension | PAY-003 | closes on octets behind the last header
pay-extension-is-body | PAY-003 | takes octets behind the last header for the message
pay-accepts-bad-subject | PAY-004 | looks a malformed subject up: NOT_FOUND, not INVALID_ARGUMENT
pay-unknown-subject-closes | PAY-004 | closes the connection on an unknown subject
pay-refusal-without-flag | PAY-004 | refuses without NOT_PROCESSED
pay-accepts-bad-key | PAY-005 | does not check the characters and length of header keys
pay-accepts-duplicate-key | PAY-005 | accepts a header key twice
pay-accepts-65-headers | PAY-005 | has no limit for the number of headers
pay-accepts-long-value | PAY-005 | has no limit for the length of a header value
pay-accepts-binary-value | PAY-005 | accepts header values that are not UTF-8 or hold NUL, CR, LF
pay-sorts-headers | PAY-006 | hands the headers over sorted by key
pay-drops-unknown-keys | PAY-006 | hands over only the header keys it knows
pay-strips-values | PAY-006 | strips white space from header values
pay-refusal-with-both-flags | PAY-007 | refuses with NOT_PROCESSED and NON_RETRYABLE
pay-error-body-too-long | PAY-007 | sends error bodies of more than 4,096 octets
pay-error-text-not-utf8 | PAY-007 | sends error messages that are not UTF-8
pay-unknown-reason-is-ignored | PAY-008 | ignores STOP and KILL with an unknown reason
pay-unknown-goaway-is-drain | PAY-008 | takes a GOAWAY with an unknown code for an orderly end
set-accepts-below-floor | SET-001 | accepts settings below their floor
set-accepts-above-maximum | SET-001 | accepts settings above their maximum
set-announces-below-floor | SET-001 | announces a MAX_FRAME_SIZE of 8,192
set-rejects-unknown | SET-002 | closes on an unknown (grease) setting
set-accepts-duplicate | SET-002 | accepts a setting twice
set-missing-is-recommended | SET-002 | takes the recommended value for what is missing
set-obeys-client-concurrency | SET-002 | takes the client's MAX_CONCURRENT_REQUESTS as its own limit
set-ignores-frame-size | SET-003 | sends frames above the client's MAX_FRAME_SIZE
set-ignores-message-size | SET-003 | sends messages above the client's MAX_MESSAGE_SIZE
set-refuses-full-frame | SET-004 | refuses a frame of exactly MAX_FRAME_SIZE
set-serves-only-64 | SET-004 | serves 64 requests at once, whatever it announced
set-serves-one-at-a-time | SET-004 | runs one handler per connection at a time
set-serves-only-50-early | SET-005 | serves 50 requests at once before SETTINGS_ACK
rid-accepts-live-duplicate | RID-002 | starts a second request under a live id
rid-accepts-finished-duplicate | RID-002 | accepts an id that is in the tombstones
rid-forgets-tombstones | RID-002 | keeps no tombstones
rid-remembers-only-50 | RID-002 | keeps 50 tombstones instead of 1,024
rid-stray-closes | RID-003 | closes on a frame for an unknown id
rid-late-chunk-closes | RID-003 | closes on a chunk behind the terminal
rid-late-chunk-is-glitch | RID-003 | charges chunks behind the terminal as glitches
rid-answers-what-nobody-asked | RID-004 | sends a RESPONSE for an id that nobody opened
rid-ordinals-from-zero | RID-005 | counts OPENs from 0
rid-refused-has-no-ordinal | RID-005 | does not count refused OPENs
stm-accepts-chunk-after-end | STM-001 | accepts REQUEST behind END_STREAM
stm-accepts-chunk-after-kill | STM-001 | accepts REQUEST behind KILL (a late terminal shows it)
stm-second-kill-closes | STM-001 | closes on a second KILL
stm-stop-on-half-closes | STM-001 | closes on STOP behind END_STREAM
stm-window-update-on-half-closes | STM-001 | closes on a stream WINDOW_UPDATE behind END_STREAM
stm-closes-on-every-request | STM-001 | every REQUEST ends the connection: rejects everything
stm-terminal-waits-for-end | STM-003 | holds the terminal back until the request has ended
stm-handler-waits-for-end | STM-004 | starts the handler on END_STREAM only
stm-loses-early-kill | STM-005 | OPEN and KILL in one segment yield no terminal
stm-goes-on-after-error | STM-006 | sends GOAWAY on a violation, then goes on as before
stm-handlers-survive-connection | STM-006 | does not cancel handlers when the connection ends
msg-merges | MSG-001 | merges a message with an unread one before it
msg-ignores-more | MSG-001 | delivers every chunk as a message of its own
msg-empty-chunk-ends-message | MSG-001 | takes an empty chunk with MORE for the last one
msg-sends-no-more | MSG-001 | splits long messages without MORE
msg-drops-empty | MSG-002 | drops empty request messages
msg-bare-end-is-message | MSG-002 | takes the empty END_STREAM of a request for an empty message
msg-bare-open-is-message | MSG-002 | takes an OPEN without body for an empty message
msg-extra-empty-response | MSG-002 | sends an empty message in front of the success terminal
msg-no-size-limit | MSG-003 | has no MAX_MESSAGE_SIZE
msg-too-large-closes | MSG-003 | closes the connection on a message that is too large
msg-delivers-incomplete | MSG-004 | delivers what has come of a message after a moment
fai-pong-behind-data | FAI-001 | sends PONG only when no data is ready
fai-bulk-keeps-its-turn | FAI-002 | a stream with large frames sends eight of them per turn
fai-refuses-interleaving | FAI-003 | closes when another request's frame comes inside a message
fai-delays-writes | FAI-004 | waits 40 ms before each write
flw-no-header-cost | FLW-001 | counts payload only, not the 32 octets per frame
flw-one-frame-over | FLW-001 | exceeds a limit by one frame
flw-ignores-connection-window | FLW-001 | knows only stream limits
flw-accepts-stream-overrun | FLW-002 | does not notice an exceeded stream limit
flw-accepts-connection-overrun | FLW-002 | does not notice an exceeded connection limit
flw-limit-is-increment | FLW-003 | adds the value of WINDOW_UPDATE to the limit
flw-limit-shrinks | FLW-003 | takes a lower limit over (shows when it follows a higher one at once)
flw-accepts-huge-limit | FLW-003 | accepts limits of 2^63 and more
flw-terminal-waits-for-window | FLW-004 | an error terminal waits for credit
flw-error-overtakes-data | FLW-005 | an error of the handler discards the data before it
flw-deadline-waits-for-data | FLW-005 | DEADLINE_EXCEEDED and SHUTDOWN wait behind unsent data
flw-never-credits | FLW-006 | never raises a limit
flw-no-chunk-credit | FLW-007 | credits a message only when it is complete
flw-leaks-killed-credit | FLW-008 | never returns what a killed request had not read
flw-discarded-cost-is-lost | FLW-008 | never returns the cost of frames for unknown or finished ids
flw-stalled-streams-block | FLW-009 | stalled streams may hold the whole connection window
flw-no-backpressure | FLW-010 | buffers up to 64 MiB per stream
flw-blocked-writer-stops-reader | FLW-011 | stops reading while its writes are blocked
flw-update-per-frame | FLW-012 | sends a WINDOW_UPDATE for every frame
flw-waits-for-slow-consumers | FLW-013 | waits for ever for a client that gives no credit
can-ignores-kill | CAN-001 | ignores KILL
can-kill-without-terminal | CAN-001 | sends no terminal for a killed request
can-data-after-kill | CAN-002 | goes on sending for 300 ms after KILL
can-handler-survives | CAN-003 | answers KILL and deadline but lets the handler run on
can-kill-frees-slot | CAN-004 | frees the slot with the terminal while the handler still runs
can-terminal-waits-for-handler | CAN-004 | a killed handler that does not end gets no terminal
can-ignores-stop | CAN-005 | does not tell the handler about STOP
can-stop-is-kill | CAN-005 | treats STOP as KILL
can-punishes-kills | CAN-006 | closes the connection after 200 KILLs
adm-no-limit | ADM-002 | accepts any number of requests
adm-overload-closes | ADM-002 | closes the connection on a surplus OPEN
adm-rejects-everything | ADM-002 | refuses every request with OVERLOADED
adm-refused-runs | ADM-003 | counts a refused request as opened (its handler had begun)
adm-no-retry-after | ADM-004 | refuses without retry_after_ms
adm-no-deadline | ADM-005 | ignores timeout_ms
adm-deadline-too-early | ADM-005 | ends a request after half of timeout_ms
hbt-no-heartbeat | HBT-001 | sends nothing on an idle connection
hbt-uses-own-timeout | HBT-001 | heartbeats at its own interval, not the peer's
hbt-no-pong | HBT-002 | does not answer PING
hbt-wrong-pong | HBT-002 | answers PING with other octets (reversed)
hbt-no-idle-timeout | HBT-003 | never gives a silent peer up
hbt-idle-too-short | HBT-003 | gives a silent peer up after half the time
hbt-only-whole-frames-count | HBT-004 | the middle of a frame does not restart the idle timer
hbt-requests-suspend-timeout | HBT-004 | never gives a silent peer up while a request runs
hbt-demands-pong | HBT-005 | gives a peer up that does not PONG, though octets arrive
hbt-no-write-timeout | HBT-006 | waits for ever for a peer that does not read
hbt-pings-freely | HBT-007 | sends 20 PINGs that nothing obliges
dos-no-ping-budget | DOS-001 | has no budget for PINGs
dos-strict-pings | DOS-001 | closes at about the 21st PING at once
dos-no-glitch-budget | DOS-001 | has no budget for useless frames
dos-strict-glitches | DOS-001 | closes at about the 51st useless frame at once
dos-no-refusal-budget | DOS-001 | has no budget for refused requests
dos-stop-frees-place | DOS-003 | a STOP frees the place of a handler that runs on
dos-partial-preface-spins | DOS-004 | an incomplete preface keeps the processor busy
dos-unbounded-control | DOS-002 | queues more than 1 MiB of control output (12,000 unread refusals)
cls-no-goaway | CLS-001 | closes on a violation without GOAWAY
cls-goaway-without-code | CLS-001 | sends GOAWAY(NO_ERROR) on a violation
cls-goaway-always-internal | CLS-001 | every violation has code INTERNAL_ERROR: only the code
cls-ordinal-counts-bad-open | CLS-001 | last_ordinal of an error GOAWAY is one too high
cls-no-linger | CLS-002 | closes at once behind GOAWAY: unread input turns it into a reset
cls-stays-open | CLS-001 | sends GOAWAY on a violation and never closes
cls-drain-kills | CLS-003 | a drain ends running requests at once
cls-drain-ignores-window-updates | CLS-003 | ignores WINDOW_UPDATE while it drains
cls-open-after-goaway-runs | CLS-004 | runs an OPEN that comes behind its GOAWAY
cls-counts-opens-after-goaway | CLS-004 | a later error GOAWAY has a higher last_ordinal
cls-drain-never-closes | CLS-005 | does not close when the last request has ended
cls-later-ordinal-rises | CLS-007 | a later error GOAWAY has a higher last_ordinal
cls-grace-never-ends | CLS-006 | lets requests run beyond grace_ms
cls-shutdown-says-not-processed | CLS-006 | sends SHUTDOWN with NOT_PROCESSED
cls-client-goaway-closes | CLS-009 | ends everything on the client's GOAWAY(NO_ERROR)
cls-accepts-open-after-client-goaway | CLS-009 | serves an OPEN behind the client's own GOAWAY
cls-eof-is-half-open | CLS-010 | goes on after the client's FIN
cls-stop-signal-kills | CLS-011 | SIGTERM ends the process without a drain
rec-ids-outlive-connection | REC-009 | refuses ids that an earlier connection used
obs-drops-traceparent | OBS-001 | does not pass traceparent on
obs-checks-traceparent | OBS-002 | refuses a request with an invalid traceparent
obs-trusts-length | OBS-003 | believes content-length
obs-goaway-without-requirement | OBS-006 | its GOAWAY message names no requirement (a SHOULD)
sec-plaintext-too | SEC-001 | serves plaintext on the port of TLS
sec-any-alpn | SEC-001 | does not look at the ALPN token
sec-accepts-tls-1-2 | SEC-001 | speaks TLS 1.2 too
sec-certificate-is-optional | SEC-002 | lets clients in that show no certificate
sec-asks-for-no-certificate | SEC-002 | asks no client for a certificate
"""


def read_table(text: str) -> dict[str, Flaw]:
    """Read a table of flaws, one per line: name, requirement, what it does."""
    rows = (line.split(" | ", 2) for line in text.strip().splitlines())
    return {name: Flaw(name, requirement, what) for name, requirement, what in rows}


FLAWS: dict[str, Flaw] = read_table(_TABLE) | read_table(model_home_flaws.TABLE)
