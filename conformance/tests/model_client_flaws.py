"""The mutations of the model client: each breaks one rule at one guard.

`requirement` is the rule a killing case has to cite. A flaw whose only effect is another error code
says so in `what`: the suite may grade that as a warning. A flaw logs `flaw reached: NAME` when its
altered guard takes effect for the first time, so that a run that never got there is visible.
"""

from __future__ import annotations

from model_flaws import Flaw, read_table

_TABLE = """
hsk-waits-for-preface | HSK-001 | sends nothing before the worker's preface has come
hsk-settings-behind-a-ping | HSK-001 | sends a PING in front of its SETTINGS
hsk-accepts-other-version | HSK-004 | takes a preface that selects version 2 for an acceptance
hsk-accepts-range | HSK-004 | takes a preface with a range of versions for an acceptance
hsk-ignores-header-size | HSK-004 | takes a preface with another header_size for an acceptance
hsk-any-first-frame | HSK-005 | accepts another frame in front of the worker's SETTINGS
hsk-refuses-goaway-first | HSK-005 | takes a GOAWAY in place of SETTINGS for a violation
hsk-early-goaway-is-drain | HSK-005 | stays when GOAWAY with NO_ERROR comes in place of SETTINGS
hsk-early-ordinal-ignored | HSK-005 | ignores last_ordinal of a GOAWAY in place of SETTINGS
hsk-accepts-second-settings | HSK-006 | takes a second SETTINGS over
hsk-sends-settings-twice | HSK-006 | sends its SETTINGS twice
hsk-no-ack | HSK-007 | never sends SETTINGS_ACK
hsk-two-acks | HSK-007 | sends SETTINGS_ACK twice
hsk-ack-before-settings | HSK-007 | sends SETTINGS_ACK before the worker's SETTINGS have come
hsk-accepts-second-ack | HSK-007 | ignores a second SETTINGS_ACK
hsk-accepts-ack-payload | HSK-007 | accepts a SETTINGS_ACK with a payload
hsk-refuses-frames-before-ack | HSK-007 | closes on a frame between SETTINGS and SETTINGS_ACK
hsk-no-timeout | HSK-008 | waits for ever for the rest of the handshake
hsk-octets-restart-timeout | HSK-008 | every octet restarts the handshake timeout
hsk-refusal-is-ambiguous | HSK-010 | a refusing preface makes pipelined requests AMBIGUOUS
hsk-silence-is-not-processed | HSK-010 | a missing preface makes pipelined requests NOT_PROCESSED
hsk-no-connect-timeout | HSK-010 | waits for ever for the worker's preface
hsk-waits-after-bad-magic | HSK-010 | waits for the timeout when the magic is wrong
hsk-goaway-on-refusal | HSK-010 | answers a refusing preface with a GOAWAY
frm-seq-little-endian | FRM-001 | sends seq with its octets reversed
frm-accepts-marker | FRM-002 | accepts any marker
frm-waits-for-payload | FRM-003 | refuses a huge payload_length only behind the payload
frm-accepts-oversize | FRM-003 | reads frames of up to 16 MiB, whatever it announced
frm-large-control | FRM-003 | lets Control and Heartbeat be as large as RESPONSE
frm-length-is-32-bit | FRM-003 | reads payload_length modulo 2^32
frm-refuses-full-frame | FRM-003 | refuses a frame of exactly its MAX_FRAME_SIZE
frm-ignores-unknown-type | FRM-004 | skips unknown types without the ignorable bit
frm-ignores-unknown-control | FRM-004 | skips unknown Control subtypes without the ignorable bit
frm-ignores-heartbeat-subtype | FRM-004 | skips unknown Heartbeat subtypes
frm-refuses-ignorable-type | FRM-005 | closes on an unknown type with bit 7 set
frm-refuses-ignorable-control | FRM-005 | closes on an unknown Control subtype with bit 7 set
frm-checks-ignorable-type | FRM-005 | checks the flags of an ignorable type
frm-ignorable-control-unchecked | FRM-005 | checks no flags and no seq of a Control extension
frm-checks-id-of-ignorable-control | FRM-005 | wants the zero id on an ignorable Control subtype
frm-refuses-reserved-flags | FRM-006 | closes on flag bits 0x10 to 0x80
frm-accepts-bad-flags | FRM-006 | ignores END_STREAM, MORE, META, ERROR on Control and Heartbeat
frm-pong-with-seq | FRM-007 | sends PONG with seq 1
frm-sends-reserved-flag | FRM-007 | sends REQUEST with flag bit 0x10
frm-sends-request-subtype | FRM-007 | sends REQUEST with subtype 1
frm-accepts-control-seq | FRM-007 | accepts a Control frame with a seq
frm-accepts-heartbeat-seq | FRM-007 | accepts a PING or PONG with a seq
frm-accepts-response-subtype | FRM-007 | accepts a RESPONSE with a subtype
frm-pong-with-id | FRM-008 | sends PONG with a request id
frm-accepts-zero-id | FRM-008 | accepts the zero id on RESPONSE
frm-accepts-ones-id | FRM-008 | accepts the all-ones id on RESPONSE and WINDOW_UPDATE
frm-accepts-id-on-connection-frame | FRM-008 | accepts a request id on SETTINGS, GOAWAY, PING
frm-seq-per-connection | FRM-010 | numbers the frames of all requests with one counter
frm-seq-skips | FRM-010 | leaves seq 1 out
frm-accepts-seq-gap | FRM-010 | does not check the seq of RESPONSE
frm-accepts-seq-repeat | FRM-010 | accepts a seq that it has had
frm-loses-split-header | FRM-011 | forgets a header that comes in two reads
frm-loses-split-payload | FRM-011 | forgets the part of a payload that came in an earlier read
frm-one-frame-per-read | FRM-011 | handles one frame per read; the others wait for more octets
frm-no-grease-setting | FRM-012 | sends no grease setting
frm-dribble-forever | FRM-013 | gives a started frame any time as long as octets dribble in
typ-accepts-request | TYP-001 | ignores a REQUEST from the worker
typ-accepts-stop-and-kill | TYP-001 | ignores STOP and KILL from the worker
typ-accepts-end-with-more | TYP-002 | accepts END_STREAM together with MORE
typ-open-without-meta | TYP-003 | sends its OPEN without the META flag
typ-meta-on-every-request | TYP-003 | sets META behind seq 0 as well
typ-accepts-error-without-end | TYP-004 | accepts ERROR without END_STREAM
typ-accepts-error-with-meta | TYP-004 | accepts ERROR together with META or MORE
typ-accepts-meta-mid-stream | TYP-005 | accepts META inside a response
typ-last-block-is-trailers | TYP-005 | takes the block of a response of one frame for trailers
pay-accepts-bad-length | PAY-001 | does not check fixed payload lengths
pay-accepts-goaway-overrun | PAY-001 | accepts a GOAWAY whose message runs past the payload
pay-refuses-goaway-extension | PAY-001 | closes on octets behind the message of a GOAWAY
pay-accepts-overrun | PAY-002 | takes what it can of an overrun or truncated metadata block
pay-accepts-large-metadata | PAY-002 | has no limit for metadata_length
pay-refuses-extension | PAY-003 | closes on octets behind the last header
pay-extension-is-data | PAY-003 | takes octets behind the last header for message data
pay-accepts-bad-key | PAY-005 | does not check the characters and length of header keys
pay-accepts-duplicate-key | PAY-005 | accepts a header key twice
pay-accepts-65-headers | PAY-005 | has no limit for the number of headers
pay-accepts-long-value | PAY-005 | has no limit for the length of a header value
pay-accepts-binary-value | PAY-005 | accepts header values that are not UTF-8 or hold NUL, CR, LF
pay-accepts-large-error-body | PAY-007 | has no limit for an error body
pay-accepts-truncated-error | PAY-007 | takes what it can of a truncated error body
pay-accepts-long-error-text | PAY-007 | accepts an error message above 1,024 octets
pay-accepts-both-error-flags | PAY-007 | accepts NOT_PROCESSED together with NON_RETRYABLE
pay-refuses-unknown-error-flags | PAY-007 | closes on an unknown error flag
pay-refuses-error-text-not-utf8 | PAY-007 | closes on an error message that is not UTF-8
pay-unknown-code-closes | PAY-008 | closes on an unknown code in an error body
pay-shows-mapped-code | PAY-008 | reports APPLICATION_ERROR for an unknown code
pay-unknown-goaway-is-drain | PAY-008 | takes a GOAWAY with an unknown code for a drain
set-accepts-below-floor | SET-001 | accepts settings below their minimum
set-accepts-above-maximum | SET-001 | accepts settings above their maximum
set-announces-below-floor | SET-001 | announces a MAX_METADATA_SIZE of 4,096
set-rejects-unknown | SET-002 | closes on an unknown (grease) setting
set-accepts-duplicate | SET-002 | accepts a setting twice
set-missing-is-recommended | SET-002 | takes the recommended value for what is missing
set-ignores-frame-size | SET-003 | sends frames above the worker's MAX_FRAME_SIZE
set-ignores-message-size | SET-003 | sends messages above the worker's MAX_MESSAGE_SIZE
set-ignores-metadata-size | SET-003 | sends metadata above the worker's limits
set-sends-bad-subject | SET-003 | sends a malformed subject
set-sends-bad-headers | SET-003 | sends malformed headers
set-recommended-early | SET-005 | assumes the recommended values before SETTINGS have come
set-large-frames-early | SET-005 | sends frames of 65,536 octets before SETTINGS have come
set-large-metadata-early | SET-005 | sends large metadata and messages before SETTINGS have come
set-opens-too-many-early | SET-005 | opens more than 100 requests before SETTINGS have come
set-refuses-what-may-wait | SET-003 | ends a request above an assumed value, which only has to wait
set-windows-do-not-rise | SET-005 | open streams and connection keep their limits at SETTINGS
rid-same-for-every-attempt | RID-001 | a retry has the id of the first attempt
rid-same-for-every-request | RID-001 | uses one request id again and again
rid-ignores-stray-response | RID-004 | ignores a RESPONSE for an id that it never used
rid-ignores-late-response | RID-004 | ignores a RESPONSE behind the terminal
rid-refuses-late-draining | RID-004 | closes on DRAINING for a request that a GOAWAY has closed
rid-ignores-draining-for-ever | RID-004 | ignores DRAINING for such a request more than once
rid-stray-window-update-closes | RID-004 | closes on a WINDOW_UPDATE for an unknown id
rid-ordinals-from-zero | RID-005 | counts its OPENs from 0
stm-killed-may-succeed | STM-002 | a success terminal behind a KILL is a success
stm-delivers-after-kill | STM-002 | delivers what comes behind its KILL
stm-kill-completes-at-once | STM-002 | reports a killed request before its terminal comes
stm-kill-is-silent | STM-002 | sends no KILL for a killed request
stm-kills-twice | STM-002 | sends KILL again when it is asked again
stm-stops-twice | STM-002 | sends STOP again when it is asked again
stm-stop-after-kill | STM-002 | sends STOP behind a KILL
stm-sends-after-kill | STM-002 | goes on sending the request behind its KILL
stm-sends-after-end | STM-002 | sends REQUEST behind END_STREAM
stm-killed-is-retried | STM-002 | retries a request that was killed
stm-killed-is-not-processed | STM-002 | a refusal behind a KILL is NOT_PROCESSED
stm-window-update-on-half-closes | STM-002 | closes on a stream WINDOW_UPDATE behind END_STREAM
stm-sends-after-terminal | STM-003 | goes on sending a request behind its terminal
stm-refuses-early-response | STM-003 | closes on a RESPONSE before the request has ended
stm-goes-on-after-error | STM-006 | sends GOAWAY on a violation, then goes on as before
msg-merges | MSG-001 | merges the messages of a response
msg-ignores-more | MSG-001 | delivers every chunk as a message of its own
msg-empty-chunk-ends-message | MSG-001 | takes an empty chunk with MORE for the last one
msg-sends-no-more | MSG-001 | splits long messages without MORE
msg-drops-empty | MSG-002 | drops empty response messages
msg-bare-end-is-message | MSG-002 | takes an empty success terminal for an empty message
msg-bare-headers-are-message | MSG-002 | takes a RESPONSE with headers only for an empty message
msg-empty-rides-in-open | MSG-002 | thinks that an OPEN without END_STREAM carries an empty message
msg-empty-rides-on-end | MSG-002 | thinks that an empty END_STREAM carries an empty message
msg-no-size-limit | MSG-003 | has no MAX_MESSAGE_SIZE
msg-too-large-closes | MSG-003 | closes the connection on a message that is too large
msg-delivers-incomplete | MSG-004 | delivers the beginning of a message that was never complete
fai-pong-behind-data | FAI-001 | sends PONG only when no data is ready
fai-kill-before-open | FAI-001 | sends KILL for a request whose OPEN is not written
fai-stop-before-open | FAI-001 | sends STOP in front of the OPEN
fai-bulk-keeps-its-turn | FAI-002 | a stream with large frames sends 15 of them per turn
fai-refuses-interleaving | FAI-003 | closes when another request's frame comes inside a message
fai-delays-writes | FAI-004 | waits 40 ms before each write
flw-no-header-cost | FLW-001 | counts payload only, not the 32 octets per frame
flw-one-frame-over | FLW-001 | exceeds a limit by 4,096 units
flw-ignores-connection-window | FLW-001 | knows only stream limits
flw-waits-for-whole-message | FLW-001 | waits until a whole message fits into the window
flw-accepts-stream-overrun | FLW-002 | does not notice an exceeded stream limit
flw-accepts-connection-overrun | FLW-002 | does not notice an exceeded connection limit
flw-limit-is-increment | FLW-003 | adds the value of WINDOW_UPDATE to the limit
flw-limit-shrinks | FLW-003 | takes a lower limit over
flw-accepts-huge-limit | FLW-003 | accepts limits of 2^63 and more
flw-end-waits-for-window | FLW-004 | an empty END_STREAM waits for credit
flw-charges-exempt-frames | FLW-004 | charges terminals that are exempt
flw-never-credits | FLW-006 | never raises a limit
flw-no-chunk-credit | FLW-007 | credits a message only when it is complete
flw-credits-paused | FLW-007 | credits a stream whose caller has stopped consuming
flw-leaks-killed-credit | FLW-008 | never returns what a killed request had not read
flw-stalled-streams-block | FLW-009 | stalled streams may hold the whole connection window
flw-sent-runs-ahead | FLW-010 | tells `sent` for messages that still wait for credit
flw-blocked-writer-stops-reader | FLW-011 | stops reading while its writes are blocked
flw-update-per-frame | FLW-012 | sends a WINDOW_UPDATE for every frame
adm-no-limit | ADM-001 | opens any number of requests
adm-kill-frees-place | ADM-001 | a KILL frees the place before the terminal
adm-last-comes-first | ADM-001 | waiting requests leave in reverse order
adm-accepts-late-not-processed | ADM-003 | accepts NOT_PROCESSED behind another RESPONSE
adm-ignores-retry-after | ADM-004 | retries without regard to retry_after_ms
hbt-no-heartbeat | HBT-001 | sends nothing on an idle connection
hbt-uses-own-timeout | HBT-001 | heartbeats at its own interval, not the peer's
hbt-fills-with-updates | HBT-001 | fills silence with WINDOW_UPDATE instead of PING
hbt-no-pong | HBT-002 | does not answer PING
hbt-wrong-pong | HBT-002 | answers PING with other octets (reversed)
hbt-late-pong | HBT-002 | answers PING after 3 s
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
flw-charges-ignored-updates | FLW-003 | charges a WINDOW_UPDATE that is to be ignored
dos-unbounded-control | DOS-002 | queues more than 1 MiB of control output
cls-no-goaway | CLS-001 | closes on a violation without GOAWAY
cls-goaway-without-code | CLS-001 | sends GOAWAY(NO_ERROR) on a violation
cls-goaway-always-internal | CLS-001 | every violation has code INTERNAL_ERROR: only the code
cls-goaway-with-ordinal | CLS-001 | last_ordinal of its error GOAWAY is not 0
cls-stays-open | CLS-001 | sends GOAWAY on a violation and never closes
cls-no-linger | CLS-002 | closes at once behind GOAWAY: unread input turns it into a reset
cls-lingers-for-ever | CLS-002 | reads and discards for ever behind its GOAWAY
cls-drain-kills | CLS-003 | a drain ends running requests at once
cls-drain-ignores-window-updates | CLS-003 | ignores WINDOW_UPDATE on a draining connection
cls-drain-stops-pongs | CLS-003 | answers no PING on a draining connection
cls-first-goaway-counts | CLS-007 | uses the first last_ordinal and not the smallest
cls-accepts-low-ordinal | CLS-007 | accepts a last_ordinal below an answered request
cls-draining-counts-as-answer | CLS-007 | a DRAINING terminal counts as an answer
rid-goaway-closes-nothing | RID-005 | a GOAWAY closes no request, whatever its last_ordinal
cls-opens-after-goaway | CLS-008 | opens requests on a draining connection
cls-drained-stays-open | CLS-008 | keeps a drained connection open
cls-no-replacement | CLS-008 | opens no replacement for a draining connection
cls-redials-the-draining | CLS-008 | dials a draining worker again at once though it knows another
cls-leaves-without-goaway | CLS-009 | closes in order without a GOAWAY (a SHOULD)
cls-leaves-with-ordinal | CLS-009 | its closing GOAWAY has a last_ordinal
cls-leaves-with-error | CLS-009 | its closing GOAWAY has an error code
cls-leaving-kills | CLS-009 | does not let running requests finish when it closes
cls-eof-is-half-open | CLS-010 | goes on after the worker's FIN
obs-goaway-without-requirement | OBS-006 | its GOAWAY message names no requirement (a SHOULD)
rec-loss-hangs | REC-001 | requests of a lost connection never complete
rec-partial-is-success | REC-001 | a response that was cut off is a success
rec-loss-is-not-processed | REC-002 | a lost request without a response is NOT_PROCESSED
rec-partial-is-ambiguous | REC-002 | a lost request with a response is AMBIGUOUS
rec-reports-last-class | REC-002 | reports the class of the last attempt, not the highest
rec-refusal-is-final | REC-002 | does not retry a refusal
rec-failed-is-final | REC-002 | does not retry an idempotent request that failed
rec-ambiguous-is-final | REC-002 | does not retry an idempotent AMBIGUOUS request
rec-not-sent-is-final | REC-002 | does not move a request that was not sent
rec-retries-invalid-argument | REC-002 | retries INVALID_ARGUMENT, MESSAGE_TOO_LARGE, UNIMPLEMENTED
rec-retries-not-found | REC-002 | retries NOT_FOUND on the worker that said so
rec-ignores-non-retryable | REC-002 | retries in spite of NON_RETRYABLE
rec-retries-after-messages | REC-002 | retries a failed request that has received messages
rec-retries-failed | REC-002 | retries a failed request that is not idempotent
rec-retries-any-code | REC-002 | retries an idempotent request after any code
rec-retries-ambiguous | REC-003 | retries an AMBIGUOUS request that is not idempotent
rec-retries-partial | REC-003 | retries a PARTIAL request
rec-no-backoff | REC-004 | dials again at once
rec-backoff-does-not-grow | REC-004 | the bound of the backoff stays at its base
rec-backoff-without-jitter | REC-004 | waits for the full bound of the backoff
rec-backoff-without-cap | REC-004 | the bound of the backoff grows by 4 and has no cap
rec-backoff-never-resets | REC-004 | a healthy connection does not reset the backoff
rec-handshake-resets-backoff | REC-004 | a handshake alone resets the backoff
rec-drain-waits | REC-004 | waits for the backoff before it replaces a draining connection
rec-dials-twice | REC-004 | makes two connection attempts at a time
rec-ten-attempts | REC-005 | makes up to 10 attempts
rec-two-attempts | REC-005 | makes at most 2 attempts
rec-not-sent-is-an-attempt | REC-005 | counts what was not sent as an attempt
rec-timeout-is-stale | REC-005 | a retry carries the full timeout_ms again
rec-no-deadline | REC-005 | has no deadline of its own
rec-kills-at-the-deadline | REC-005 | sends KILL at the deadline, not 0.5 s to 1 s later
rec-no-kill-at-deadline | REC-005 | never sends KILL for a deadline
rec-no-end-after-late-kill | REC-005 | waits for ever for the terminal behind that KILL
rec-waits-for-ever | REC-005 | a request waits for ever for a chance to begin
rec-no-retry-delay | REC-005 | retries without a delay
rec-long-retry-delay | REC-005 | waits 600 ms before each retry
rec-delay-after-loss | REC-005 | waits 500 ms before a retry where no delay is due
rec-retry-after-without-jitter | REC-005 | waits exactly retry_after_ms
rec-retry-after-is-the-most | REC-005 | waits for less than retry_after_ms
rec-no-budget | REC-006 | has no retry budget
rec-no-request-id | REC-007 | sends no request-id header
rec-replaces-request-id | REC-007 | replaces the caller's request-id
rec-new-request-id | REC-007 | each attempt has a request-id of its own
rec-no-attempt-header | REC-007 | a retry has no attempt header
rec-attempt-from-one | REC-007 | the first attempt has an attempt header
rec-keeps-everything | REC-007 | keeps more than 1 MiB of sent messages for a retry
rec-retries-what-it-dropped | REC-007 | retries with empty messages in place of what it dropped
rec-prefers-the-failed-worker | REC-008 | retries on the worker that has failed
rec-one-request-per-connection | REC-010 | lends a connection to one request at a time
rec-crowds-one-connection | REC-010 | uses its first connection only
rec-opens-one-connection | REC-010 | opens one connection, however many it is asked for
p0-greets-first | P0-002 | sends its preface before the magic has come
p0-answers-bad-magic | P0-002 | answers a wrong magic with its preface
p0-ignores-bad-magic | P0-002 | never closes on a wrong magic
p0-no-preface-timeout | P0-002 | waits for ever for the rest of a preface
p0-octets-restart-preface-timeout | P0-002 | every octet restarts the time for the preface
p0-accepts-bad-idle-timeout | P0-002 | accepts any idle timeout of a worker
p0-answers-bad-idle-timeout | P0-002 | answers a bad idle timeout before it closes
p0-accepts-any-version | P0-002 | goes on with an offer that does not contain version 1
p0-ignores-header-size | P0-002 | accepts a preface with another header_size
p0-refuses-without-preface | P0-002 | closes on a version it does not serve without its range
p0-refusal-stays-open | P0-002 | keeps the connection behind a refusal
p0-selects-highest-offer | P0-002 | selects the worker's ver_hi, even one it does not know
p0-announces-bad-idle-timeout | P0-002 | announces an idle timeout of 50 ms
p0-no-done | P0-008 | never sends DONE
p0-no-done-behind-error | P0-008 | sends no DONE behind an error terminal
p0-late-done | P0-008 | sends DONE 25 s late
p0-two-dones | P0-008 | sends DONE twice
p0-done-of-another-id | P0-008 | sends DONE with another id
p0-done-behind-first-response | P0-008 | sends DONE behind the first RESPONSE, too
p0-closes-behind-done | P0-008 | closes a connection behind DONE
p0-no-done-behind-kill | P0-011 | sends no DONE for a stream that it killed
p0-forgets-early-stop | P0-011 | forgets a STOP that came before ACCEPT
p0-kill-is-silent | P0-011 | sends no KILL
p0-killed-may-succeed | P0-011 | a success terminal behind a KILL is a success
p0-accepts-gap | P0-012 | accepts a gap in seq
p0-accepts-repeat | P0-012 | accepts a seq again
p0-accepts-other-id | P0-012 | takes a RESPONSE of any id for one of the stream
p0-accepts-marker | P0-012 | accepts any marker
p0-skips-unknown-types | P0-012 | skips frames of unknown types
p0-ignores-wmx-control | P0-012 | skips SETTINGS, GOAWAY and unknown Control subtypes
p0-ignores-router-frames | P0-012 | skips what only a router sends
p0-ignores-hello-in-stream | P0-012 | skips a HELLO in the middle of a stream
p0-ignores-response-while-idle | P0-012 | skips a RESPONSE without a stream
p0-accepts-short-hello | P0-012 | takes a HELLO of any size
p0-accepts-zero-id | P0-012 | answers a HELLO whose id is zero
p0-accepts-oversize | P0-012 | has no limit for payload_length
p0-refuses-full-frame | P0-012 | refuses a RESPONSE of 1,048,576 octets
p0-refuses-ignorable | P0-012 | closes on ignorable frames
p0-accepts-bad-flags | P0-012 | accepts flags on Control and Heartbeat
p0-accepts-control-seq | P0-012 | accepts a seq on Control and Heartbeat
p0-accepts-bad-ping | P0-012 | accepts a PING of any size
p0-accepts-end-with-more | P0-012 | accepts END_STREAM with MORE
p0-accepts-error-without-end | P0-012 | accepts ERROR without END_STREAM
p0-accepts-meta-mid-stream | P0-012 | accepts META inside a response
p0-accepts-response-subtype | P0-012 | accepts a subtype on RESPONSE
p0-accepts-large-error-body | P0-012 | has no limit for an error body
p0-accepts-late-not-processed | P0-012 | accepts NOT_PROCESSED behind another RESPONSE
p0-goaway-on-violation | P0-012 | sends GOAWAY before it closes on a violation
p0-violation-stays-open | P0-012 | drops what breaks a rule, and goes on
p0-no-pong | P0-014 | answers no PING
p0-idle-no-pong | P0-014 | answers no PING on an idle connection
p0-wrong-pong | P0-014 | answers PING with other octets (reversed)
p0-no-heartbeat | P0-014 | sends nothing on a quiet connection
p0-heartbeat-by-own-timeout | P0-014 | heartbeats at its own interval, not the peer's
p0-no-idle-timeout | P0-014 | never gives a silent worker up
p0-idle-too-short | P0-014 | gives a silent worker up after half the time
p0-only-frames-count | P0-014 | the middle of a frame does not restart the idle timer
p0-stream-suspends-idle-timeout | P0-014 | never gives a silent worker up while a stream runs
p0-closes-what-is-idle | P0-014 | closes a connection without a stream after 2 s
p0-announces-nothing | P0-014 | announces no idle timeout, though it has its own
p0-pause-runs-the-timer | P0-014 | gives a worker up that it does not read
p0-pause-stops-pings | P0-014 | sends no PING while the caller does not read
p0-reads-while-paused | P0-014 | reads on while the caller does not
p0-addr-of-any-interface | P0-017 | tells its port only in wch-addr
p0-no-headers | P0-017 | does not send the caller's headers
p0-token-with-padding | P0-018 | writes the token with its padding
p0-token-counts | P0-018 | numbers its tokens
p0-token-is-a-uuid | P0-018 | takes a UUID for a token
p0-token-is-the-id | P0-018 | takes the id of the stream for its token
p0-one-token-for-all | P0-018 | has one token for all streams
p0-accepts-any-token | P0-018 | does not look at the token
p0-compares-half-a-token | P0-018 | compares the first 8 octets of a token
p0-looks-at-the-token-only | P0-018 | does not look at the id of a HELLO
p0-accepts-token-of-another-stream | P0-018 | accepts the token of any stream
p0-rejects-by-closing | P0-018 | closes in place of REJECT
p0-rejects-silently | P0-018 | does not answer a HELLO that it cannot accept
p0-no-limit-of-rejects | P0-018 | lets a worker guess for ever
p0-closes-behind-two | P0-018 | closes behind the second REJECT with NOT_FOUND
p0-cancelled-counts | P0-018 | counts REJECT with CANCELLED as a guess
p0-hello-needs-202 | P0-018 | rejects a HELLO that comes before the 202
p0-token-dies-early | P0-018 | a token lives for half its time
p0-token-lives-for-ever | P0-018 | a token never dies
p0-void-token-hangs | P0-018 | a stream whose token has died never completes
p0-token-is-reusable | P0-018 | accepts a token again behind the terminal
p0-kill-waits-for-hello | P0-018 | a stream that is given up waits for its HELLO
p0-cancelled-is-forgotten | P0-018 | forgets at once a stream that is given up
p0-cancelled-is-remembered-for-ever | P0-018 | remembers such a stream for ever
p0-supersedes-behind-response | P0-019 | a second HELLO supersedes behind a RESPONSE, too
p0-no-superseding | P0-019 | rejects a second HELLO for an accepted stream
p0-keeps-the-superseded | P0-019 | does not close a connection that was superseded
p0-reads-the-superseded | P0-019 | takes RESPONSEs from a connection that was superseded
p0-accepts-silently | P0-019 | sends no ACCEPT
p0-eof-is-success | P0-019 | the end of the connection behind a RESPONSE is a success
p0-eof-is-half-open | P0-019 | goes on with a stream behind the worker's FIN
p0-partial-is-ambiguous | P0-019 | a stream cut off behind a RESPONSE is AMBIGUOUS
p0-early-loss-is-final | P0-019 | does not wait for another HELLO behind a loss
p0-early-loss-hangs | P0-019 | a stream whose connection is lost early never completes
p0-early-loss-is-partial | P0-019 | a loss before a RESPONSE is PARTIAL
p0-refusing-terminal-failed | P0-019 | an error terminal with NOT_PROCESSED is FAILED
p0-refusal-is-ambiguous | P0-019 | an answer with wmx-not-processed is AMBIGUOUS
p0-any-error-object-is-not-processed | P0-019 | an error object without the field is NOT_PROCESSED
p0-any-5xx-is-not-processed | P0-019 | every 5xx is NOT_PROCESSED
p0-any-2xx-is-202 | P0-019 | takes every 2xx for a 202
p0-follows-redirects | P0-019 | posts again where an answer points to
p0-no-answer-timeout | P0-019 | waits for ever for an HTTP answer
p0-no-answer-is-not-sent | P0-019 | a POST without an answer is NOT_SENT
p0-http-eof-hangs | P0-019 | does not see the end of an HTTP connection
p0-answer-decides-behind-accept | P0-019 | an HTTP answer decides behind the ACCEPT, too
p0-refused-dial-is-ambiguous | P0-019 | a POST that cannot be begun is AMBIGUOUS
p0-kill-waits-for-ever | P0-019 | waits for ever for the terminal behind a KILL
p0-kill-leaves-connection | P0-019 | gives up behind a KILL without closing the connection
p0-no-timeout-field | P0-019 | does not tell the worker its deadline
rec-no-attempt-field | REC-007 | a retry by HTTP has no attempt field
set-sends-any-header | SET-003 | sends headers that HTTP would take for its own
"""

FLAWS: dict[str, Flaw] = read_table(_TABLE)
