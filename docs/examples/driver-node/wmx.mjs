// A small WMX/1 client: one address, one connection at a time, no retries, no TLS.
//
// `Client` dials, keeps the requests that wait, and redials with backoff. `Connection` is the
// protocol on one socket. Time is checked by one ticker. A comment such as FLW-002 names the rule of
// the specification that a line keeps.

import net from 'node:net';
import { randomBytes, randomUUID } from 'node:crypto';

const REQUEST = 1, RESPONSE = 2, CONTROL = 3, HEARTBEAT = 4;
const SETTINGS = 1, SETTINGS_ACK = 2, WINDOW_UPDATE = 3, STOP = 4, KILL = 5, GOAWAY = 6;
const PING = 1, PONG = 2;
const END_STREAM = 1, MORE = 2, META = 4, ERROR = 8;
const NOT_PROCESSED = 1, NON_RETRYABLE = 2;

export const NO_ERROR = 0, CANCELLED = 0x100, DEADLINE_EXCEEDED = 0x101;
const PROTOCOL_ERROR = 1, FLOW_CONTROL_ERROR = 3, FRAME_SIZE_ERROR = 4, SETTINGS_ERROR = 5;
const HANDSHAKE_TIMEOUT = 6, HEARTBEAT_TIMEOUT = 7, ENHANCE_YOUR_CALM = 8, SEQUENCE_ERROR = 0x0b;
const UNSUPPORTED_FRAME = 0x0d, INVALID_ARGUMENT = 0x103, DRAINING = 0x105;
const MESSAGE_TOO_LARGE = 0x106;

// Chapter 5: id, name, minimum, assumed, recommended, maximum.
const SETTING_TABLE = [
  [1, 'MAX_FRAME_SIZE', 16_384, 16_384, 65_536, 16_777_216],
  [2, 'MAX_CONCURRENT_REQUESTS', 100, 100, 1_024, 1_048_576],
  [3, 'INITIAL_STREAM_WINDOW', 65_536, 65_536, 262_144, 2 ** 40],
  [4, 'CONNECTION_WINDOW', 1_048_576, 1_048_576, 67_108_864, 2 ** 40],
  [5, 'MAX_METADATA_SIZE', 8_192, 8_192, 16_384, 65_536],
  [6, 'MAX_MESSAGE_SIZE', 1_048_576, 1_048_576, 67_108_864, 2 ** 40],
  [7, 'IDLE_TIMEOUT_MS', 100, 60_000, 60_000, 600_000],
];

const MAGIC = Buffer.from('f7574d580d0a1a0a', 'hex');
const PREFACE = Buffer.concat([MAGIC, Buffer.from([1, 1, 32, 0, 0, 0, 0, 0])]);
const ALL_ZERO = '0'.repeat(32), ALL_ONES = 'f'.repeat(32);
const TURN = 65_536; // payload octets of one turn of a stream (FAI-002)
const UNSENT = 131_072; // octets that wait in the socket, where nothing overtakes them (FAI-005)
const CONTROL_BUFFER = 1_048_576; // DOS-002
const TICK_MS = 10;
const now = () => performance.now();

class Violation extends Error {
  constructor(code, rule) {
    super(rule);
    this.code = code;
  }
}

class Refused extends Error {
  constructor(code, text) {
    super(text);
    this.code = code;
  }
}

function check(holds, code, rule) {
  if (!holds) throw new Violation(code, rule);
}

function frame(type, flags, subtype, seq, id, payload) {
  const header = Buffer.alloc(32);
  header.set([0xf7, type, flags, subtype]);
  header.writeUInt32BE(seq, 4);
  header.writeBigUInt64BE(BigInt(payload.length), 8);
  header.write(id, 16, 'hex');
  return Buffer.concat([header, payload]);
}

function numbers(...pairs) {
  // [value, octets] in a row, big-endian.
  const out = Buffer.alloc(pairs.reduce((sum, [, octets]) => sum + octets, 0));
  let at = 0;
  for (const [value, octets] of pairs) {
    if (octets === 8) out.writeBigUInt64BE(BigInt(value), at);
    else out.writeUIntBE(value, at, octets);
    at += octets;
  }
  return out;
}

// A token bucket: what it tolerates lies well below what it refuses (DOS-001).
class Budget {
  constructor(size, perSecond) {
    Object.assign(this, { size, perSecond, left: size, at: now() });
  }
  charge() {
    const time = now();
    this.left = Math.min(this.size, this.left + ((time - this.at) / 1000) * this.perSecond);
    this.at = time;
    this.left -= 1;
    check(this.left >= 0, ENHANCE_YOUR_CALM, 'DOS-001');
  }
}

// --- metadata -----------------------------------------------------------------------------------

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const isKey = (key) => /^[a-z0-9._-]{1,64}$/.test(key);
const isValue = (value) => !/[\0\r\n]/.test(value) && Buffer.byteLength(value) <= 8_192;

function encodeOpen({ subject, headers, idempotent }, timeoutMs) {
  const fields = [numbers([timeoutMs, 4], [idempotent ? 1 : 0, 2], [headers.length, 2])];
  fields.push(numbers([Buffer.byteLength(subject), 2]), Buffer.from(subject));
  for (const [key, value] of headers) {
    fields.push(numbers([key.length, 1]), Buffer.from(key));
    fields.push(numbers([Buffer.byteLength(value), 2]), Buffer.from(value));
  }
  const block = Buffer.concat(fields);
  return Buffer.concat([numbers([block.length, 4]), block]);
}

// Return the headers of a RESPONSE, and what is left of its payload (PAY-002, PAY-003, PAY-005).
function decodeMeta(payload, limit) {
  check(payload.length >= 4, PROTOCOL_ERROR, 'PAY-002');
  const length = payload.readUInt32BE(0);
  check(length <= Math.min(limit, payload.length - 4), PROTOCOL_ERROR, 'PAY-002');
  const block = payload.subarray(4, 4 + length);
  let at = 0;
  const take = (octets) => {
    check(at + octets <= block.length, PROTOCOL_ERROR, 'PAY-002');
    at += octets;
    return block.subarray(at - octets, at);
  };
  const count = take(2).readUInt16BE();
  check(count <= 64, PROTOCOL_ERROR, 'PAY-005');
  const headers = [];
  for (let i = 0; i < count; i++) {
    const key = take(take(1).readUInt8()).toString('latin1');
    const octets = take(take(2).readUInt16BE());
    let value = null;
    try {
      value = utf8.decode(octets);
    } catch {
      // PAY-005, below
    }
    const fresh = !headers.some(([other]) => other === key);
    check(isKey(key) && fresh && value !== null && isValue(value), PROTOCOL_ERROR, 'PAY-005');
    headers.push([key, value]);
  }
  return [headers, payload.subarray(4 + length)];
}

// PAY-007
function decodeError(payload) {
  check(payload.length >= 12, PROTOCOL_ERROR, 'PAY-007');
  const length = payload.readUInt16BE(10), flags = payload.readUInt16BE(4);
  check(length <= 1_024 && 12 + length <= payload.length, PROTOCOL_ERROR, 'PAY-007');
  check((flags & 3) !== (NOT_PROCESSED | NON_RETRYABLE), PROTOCOL_ERROR, 'PAY-007');
  return { code: payload.readUInt32BE(0), flags, text: payload.toString('utf8', 12, 12 + length) };
}

// --- requests -----------------------------------------------------------------------------------

// One request. `on` holds what its user wants to hear: headers, message, sent, end, error.
export class Request {
  constructor(client, options, on) {
    Object.assign(this, { client, on, paused: false, ...options });
    this.id = randomBytes(16).toString('hex'); // RID-001
    this.headers = this.headers ?? [];
    this.state = 'IDLE'; // chapter 7.3: IDLE, OPEN, HALF, KILLING, CLOSED
    this.since = now();
    this.deadline = this.timeoutMs ? this.since + this.timeoutMs : Infinity;
    this.connection = null;
    this.queue = []; // {meta, data, end, message} not written yet
    this.offset = 0; // octets of the first that are written
    this.ended = false; // by the caller
    this.sentMessages = 0;
    this.ordinal = 0;
    this.seq = 0;
    this.sent = 0; // cost
    this.sendLimit = 0;
    this.received = 0; // cost
    this.returned = 0;
    this.recvLimit = 0;
    this.nextSeq = 0;
    this.chunks = []; // of the message that is arriving
    this.size = 0;
    this.chunkCost = 0;
    this.open = false; // a message is incomplete
    this.held = []; // messages that a paused user has not taken
    this.messages = 0;
    this.verdict = null; // why this side has killed it
    this.stopReason = null;
  }

  // MSG-002: an empty message and the end of the direction are different frames.
  push(data, end) {
    this.ended = end;
    if (data !== null) {
      this.queue.push({ meta: null, data, end: end && data.length > 0, message: true });
    }
    if (end && !(data?.length > 0)) {
      this.queue.push({ meta: null, data: Buffer.alloc(0), end: true, message: false });
    }
    this.connection?.tooLarge(this, data);
    this.connection?.pump();
  }

  stop(reason) {
    if (this.state === 'IDLE') this.stopReason = reason; // FAI-001
    else if (['OPEN', 'HALF'].includes(this.state)) this.connection.sendStop(this, reason);
  }

  kill(reason, verdict = null) {
    if (this.state === 'IDLE') {
      this.fail('NOT_SENT', verdict ?? CANCELLED, { attempts: 0 });
    } else if (['OPEN', 'HALF'].includes(this.state)) {
      this.verdict = verdict;
      this.connection.sendKill(this, reason);
    }
    this.dropInput();
  }

  pause() {
    this.paused = true;
  }

  resume() {
    this.paused = false;
    for (const { data, cost } of this.held.splice(0)) this.deliver(data, cost);
    this.creditChunks();
  }

  deliver(data, cost) {
    this.messages += 1;
    this.on.message(data);
    this.connection?.consumed(this, cost);
  }

  // FLW-007: the chunks of a message are credited only while somebody waits for it.
  creditChunks() {
    const cost = this.chunkCost;
    this.chunkCost = 0;
    this.connection?.consumed(this, cost);
  }

  dropInput() {
    this.chunks = [];
    this.size = 0;
    this.creditChunks();
    for (const { cost } of this.held.splice(0)) this.connection?.consumed(this, cost);
  }

  finish() {
    this.state = 'CLOSED';
    this.queue = [];
    this.client.requests.delete(this);
    setImmediate(() => this.client.settle());
  }

  succeed(trailers) {
    this.finish();
    this.on.end(trailers);
  }

  fail(outcome, code, { local = true, text = '', attempts = 1 } = {}) {
    if (this.state === 'CLOSED') return;
    this.finish();
    this.on.error({ outcome, code, local, text, attempts });
  }
}

// --- the connection -----------------------------------------------------------------------------

class Connection {
  constructor(client, number) {
    const { host, port, settings } = client;
    Object.assign(this, { client, number, settings, dialled: now() });
    this.peer = Object.fromEntries(SETTING_TABLE.map(([, name, , assumed]) => [name, assumed]));
    this.requests = new Map(); // by id: those whose OPEN is written and whose terminal is missing
    this.uncovered = new Set(); // closed by a GOAWAY; one DRAINING may follow (RID-004)
    this.creditDue = new Set(); // requests whose limit may have to be announced
    this.turns = []; // requests with something to send, in turn
    this.input = [];
    this.inputSize = 0;
    this.need = 16; // octets that the next step needs
    this.header = null;
    this.preface = this.settled = this.ready = this.over = false;
    this.ordinals = 0;
    this.lastOrdinal = Infinity;
    this.goaway = null; // code of the one received
    this.leaving = false; // we have sent one
    this.closeAt = Infinity; // when a drained or lingering socket is closed
    this.sent = 0;
    this.sendLimit = this.peer.CONNECTION_WINDOW;
    this.received = this.held = 0;
    this.recvLimit = settings.CONNECTION_WINDOW;
    this.heard = this.spoke = this.progress = now();
    this.frameBegan = Infinity;
    this.unwritten = 0;
    this.pings = []; // unanswered ones of ours
    this.pingBudget = new Budget(500, 2 * Math.max(10, 4_000 / settings.IDLE_TIMEOUT_MS));
    this.glitches = new Budget(1_000, 100);

    this.socket = net.connect({ host, port, noDelay: true, allowHalfOpen: true });
    this.socket.on('connect', () => (this.tcp = true));
    this.socket.on('data', (data) => this.onData(data));
    this.socket.on('end', () => this.lost('closed by the peer'));
    this.socket.on('error', (error) => this.lost(error.code ?? error.message));
    this.socket.on('close', () => this.onClose());
    const pairs = SETTING_TABLE.filter(([id]) => id !== 2);
    const values = pairs.map(([id, name]) => numbers([id, 2], [settings[name], 8]));
    values.push(numbers([0x5a5a, 2], [7, 8])); // FRM-012: grease
    this.write(Buffer.concat([PREFACE, frame(CONTROL, 0, SETTINGS, 0, ALL_ZERO, Buffer.concat(values))]));
    this.ticker = setInterval(() => this.tick(), TICK_MS);
  }

  get accepting() {
    return this.ready && !this.over && this.goaway === null && !this.leaving;
  }

  // --- output

  write(octets) {
    if (this.socket.destroyed || this.socket.writableEnded) return;
    if (!this.unwritten) this.progress = now();
    this.unwritten += octets.length;
    this.spoke = now();
    this.socket.write(octets, () => {
      this.unwritten -= octets.length;
      this.progress = this.spoke = now();
      this.grant();
      this.pump();
    });
    if (this.unwritten > UNSENT + CONTROL_BUFFER) this.abort('DOS-002');
  }

  control(type, subtype, id, payload = Buffer.alloc(0)) {
    this.write(frame(type, 0, subtype, 0, id, payload));
  }

  // Take a request; its OPEN is written as soon as limits allow.
  open(request) {
    const left = Math.max(1, Math.ceil(request.deadline - now()));
    const meta = encodeOpen(request, Number.isFinite(left) ? left : 0);
    const { MAX_METADATA_SIZE, MAX_FRAME_SIZE, INITIAL_STREAM_WINDOW } = this.peer;
    const most = Math.min(MAX_METADATA_SIZE, MAX_FRAME_SIZE - 4, INITIAL_STREAM_WINDOW - 36);
    const large = request.queue.some(({ data }) => data.length > this.peer.MAX_MESSAGE_SIZE);
    if (meta.length - 4 > most) throw new Refused(INVALID_ARGUMENT, 'the headers are too large');
    if (large) throw new Refused(MESSAGE_TOO_LARGE, 'a message is too large');
    request.connection = this;
    request.sendLimit = INITIAL_STREAM_WINDOW;
    request.recvLimit = this.settings.INITIAL_STREAM_WINDOW;
    const [first, second] = request.queue;
    if (first?.data.length) {
      first.meta = meta;
    } else if (first?.message && second?.end && !second.message) {
      request.queue.splice(0, 2, { meta, data: first.data, end: true, message: true });
    } else {
      request.queue.unshift({ meta, data: Buffer.alloc(0), end: false, message: false });
    }
    this.pump();
  }

  tooLarge(request, data) {
    if (data === null || data.length <= this.peer.MAX_MESSAGE_SIZE) return;
    request.kill(MESSAGE_TOO_LARGE, MESSAGE_TOO_LARGE);
  }

  // Serve every stream in turn while the socket takes octets (FAI-002).
  pump() {
    if (this.over) return;
    for (const request of this.client.requests) {
      if (request.connection !== this || !request.queue.length) continue;
      if (!this.turns.includes(request)) this.turns.push(request);
    }
    for (let idle = 0; idle < this.turns.length && this.unwritten < UNSENT; ) {
      const request = this.turns.shift();
      if (!request.queue.length) continue;
      idle = this.writeFrame(request) ? 0 : idle + 1;
      if (request.queue.length) this.turns.push(request);
    }
  }

  writeFrame(request) {
    if (request.state === 'IDLE' && this.requests.size >= this.peer.MAX_CONCURRENT_REQUESTS) {
      return false; // ADM-001
    }
    const { meta, data, end, message } = request.queue[0];
    const fixed = 32 + (meta?.length ?? 0);
    const left = data.length - request.offset;
    const credit = Math.min(request.sendLimit - request.sent, this.sendLimit - this.sent);
    let size = 0;
    if (meta || left || !end) { // FLW-004: an empty end costs nothing
      if (credit < fixed + (left && !meta ? 1 : 0)) return false;
      size = Math.min(left, credit - fixed, TURN, this.peer.MAX_FRAME_SIZE - fixed + 32);
      request.sent += fixed + size;
      this.sent += fixed + size;
    }
    const last = size === left;
    const flags = (meta ? META : 0) | (last ? (end ? END_STREAM : 0) : MORE);
    const chunk = data.subarray(request.offset, request.offset + size);
    const payload = meta ? Buffer.concat([meta, chunk]) : chunk;
    if (request.state === 'IDLE') {
      this.requests.set(request.id, request);
      request.ordinal = ++this.ordinals; // RID-005
      request.state = 'OPEN';
    }
    this.write(frame(REQUEST, flags, 0, request.seq++, request.id, payload));
    request.queue[0].meta = null;
    request.offset += size;
    if (last) {
      request.queue.shift();
      request.offset = 0;
      if (end) request.state = 'HALF';
      if (message) request.on.sent(++request.sentMessages);
    }
    if (request.stopReason !== null) this.sendStop(request, request.stopReason);
    return true;
  }

  sendStop(request, reason) {
    request.stopReason = null;
    if (request.stopped) return;
    request.stopped = true;
    this.control(CONTROL, STOP, request.id, numbers([reason, 4]));
  }

  sendKill(request, reason) {
    request.state = 'KILLING';
    request.queue = [];
    this.control(CONTROL, KILL, request.id, numbers([reason, 4]));
  }

  // --- credit

  consumed(request, cost) {
    this.held -= cost;
    request.returned += cost;
    this.creditDue.add(request);
    this.grant();
  }

  // Announce the limits that have grown by a quarter of their window (FLW-012). While the peer does
  // not read they stay as they are, since it cannot know better ones (FLW-002).
  grant() {
    if (this.over || this.unwritten >= UNSENT) return;
    const { CONNECTION_WINDOW, INITIAL_STREAM_WINDOW } = this.settings;
    const held = Math.min(this.held, Math.floor(CONNECTION_WINDOW / 2)); // FLW-009
    this.raise(this, ALL_ZERO, this.received - held + CONNECTION_WINDOW, CONNECTION_WINDOW);
    for (const request of this.creditDue) {
      if (request.state !== 'OPEN' && request.state !== 'HALF') continue;
      const limit = request.returned + INITIAL_STREAM_WINDOW;
      this.raise(request, request.id, limit, INITIAL_STREAM_WINDOW);
    }
    this.creditDue.clear();
  }

  raise(target, id, limit, window) {
    if (limit - target.recvLimit < window / 4) return;
    target.recvLimit = limit;
    this.control(CONTROL, WINDOW_UPDATE, id, numbers([limit, 8]));
  }

  // --- input

  onData(data) {
    this.heard = now();
    if (this.over) return; // CLS-002: read and discard
    this.input.push(data);
    this.inputSize += data.length;
    try {
      if (!this.preface) this.checkMagic();
      while (!this.over && this.inputSize >= this.need) this.step(this.take(this.need));
      this.clockFrame();
    } catch (error) {
      if (!(error instanceof Violation)) throw error;
      this.violated(error);
    }
  }

  take(size) {
    const all = this.input.length === 1 ? this.input[0] : Buffer.concat(this.input);
    this.inputSize -= size;
    this.input = this.inputSize ? [all.subarray(size)] : [];
    return all.subarray(0, size);
  }

  checkMagic() {
    const begin = Buffer.concat(this.input).subarray(0, 8);
    check(begin.equals(MAGIC.subarray(0, begin.length)), null, 'HSK-010');
  }

  // FRM-013: how long the frame that has begun may take.
  clockFrame() {
    if (!this.header && !(this.preface && this.inputSize)) this.frameBegan = Infinity;
    else if (this.frameBegan === Infinity) this.frameBegan = now();
  }

  step(octets) {
    if (!this.preface) {
      const [high, low, size] = octets.subarray(8);
      check(high === low && high === 1 && size === 32, null, 'HSK-004');
      this.preface = true;
      this.need = 32;
    } else if (!this.header) {
      this.header = this.checkHeader(octets);
      this.need = this.header.length;
      if (!this.need) this.step(octets.subarray(0, 0));
    } else {
      const header = this.header;
      this.header = null;
      this.need = 32;
      this.frameBegan = Infinity;
      this.onFrame(header, octets);
    }
  }

  // Section 2.5, steps 1 to 9.
  checkHeader(octets) {
    const [marker, type, flags, subtype] = octets;
    const seq = octets.readUInt32BE(4);
    const declared = octets.readBigUInt64BE(8);
    const id = octets.toString('hex', 16, 32);
    check(marker === 0xf7, PROTOCOL_ERROR, 'FRM-002');
    const first = type === CONTROL && (subtype === SETTINGS || subtype === GOAWAY);
    check(this.settled || first, PROTOCOL_ERROR, 'HSK-005');
    check(type !== REQUEST, PROTOCOL_ERROR, 'TYP-001');
    const stream = type === RESPONSE, small = type === CONTROL || type === HEARTBEAT;
    check(stream || small || type & 0x80, UNSUPPORTED_FRAME, 'FRM-004');
    const most = small ? 4_096 : this.settings.MAX_FRAME_SIZE;
    check(declared <= BigInt(most), FRAME_SIZE_ERROR, 'FRM-003');
    const header = { type, flags, subtype, seq, id, length: Number(declared) };
    if (stream) this.checkResponse(header);
    else if (small) this.checkSmall(header);
    return header;
  }

  checkSmall({ type, flags, subtype, seq, id, length }) {
    check(!(flags & 0x0f), PROTOCOL_ERROR, 'FRM-006');
    if (type === HEARTBEAT) {
      check(subtype === PING || subtype === PONG, PROTOCOL_ERROR, 'FRM-004');
    } else {
      check(subtype !== STOP && subtype !== KILL, PROTOCOL_ERROR, 'TYP-001');
      check((subtype >= 1 && subtype <= 6) || subtype & 0x80, UNSUPPORTED_FRAME, 'FRM-004');
    }
    check(seq === 0, PROTOCOL_ERROR, 'FRM-007');
    if (type === CONTROL && subtype & 0x80) return;
    const update = type === CONTROL && subtype === WINDOW_UPDATE;
    check(update ? id !== ALL_ONES : id === ALL_ZERO, PROTOCOL_ERROR, 'FRM-008');
    if (type === HEARTBEAT || update) check(length === 8, FRAME_SIZE_ERROR, 'PAY-001');
    else if (subtype === SETTINGS_ACK) check(length === 0, FRAME_SIZE_ERROR, 'PAY-001');
    else if (subtype === GOAWAY) check(length >= 18, FRAME_SIZE_ERROR, 'PAY-001');
    else check(length % 10 === 0 && length <= 640, FRAME_SIZE_ERROR, 'PAY-001');
  }

  checkResponse({ flags, subtype, seq, id, length }) {
    check(subtype === 0, PROTOCOL_ERROR, 'FRM-007');
    check(id !== ALL_ZERO && id !== ALL_ONES, PROTOCOL_ERROR, 'FRM-008');
    check(!(flags & ERROR) || length <= 4_096, FRAME_SIZE_ERROR, 'PAY-007');
    check((flags & (END_STREAM | MORE)) !== (END_STREAM | MORE), PROTOCOL_ERROR, 'TYP-002');
    const alone = flags & END_STREAM && !(flags & (META | MORE));
    check(!(flags & ERROR) || alone, PROTOCOL_ERROR, 'TYP-004');
    check(!(flags & META) || seq === 0 || flags & END_STREAM, PROTOCOL_ERROR, 'TYP-005');
  }

  onFrame(header, payload) {
    const { type, subtype, id } = header;
    if (type === RESPONSE) this.onResponse(header, payload);
    else if (type === HEARTBEAT) this.onHeartbeat(subtype, payload);
    else if (type !== CONTROL || subtype & 0x80) this.glitches.charge(); // FRM-005
    else if (subtype === SETTINGS) this.onSettings(payload);
    else if (subtype === SETTINGS_ACK) this.onAck();
    else if (subtype === WINDOW_UPDATE) this.onWindowUpdate(id, payload.readBigUInt64BE());
    else this.onGoaway(payload);
  }

  onSettings(payload) {
    check(!this.settled, PROTOCOL_ERROR, 'HSK-006');
    const seen = new Set();
    for (let at = 0; at < payload.length; at += 10) {
      const id = payload.readUInt16BE(at), value = payload.readBigUInt64BE(at + 2);
      check(!seen.has(id), SETTINGS_ERROR, 'SET-002');
      seen.add(id);
      const row = SETTING_TABLE.find(([known]) => known === id);
      if (!row) continue;
      const [, name, least, , , most] = row;
      check(value >= least && value <= most, SETTINGS_ERROR, 'SET-001');
      this.peer[name] = Number(value);
    }
    this.settled = true;
    this.sendLimit = Math.max(this.sendLimit, this.peer.CONNECTION_WINDOW);
    this.spoke = now(); // HBT-001 counts from here
    this.control(CONTROL, SETTINGS_ACK, ALL_ZERO);
  }

  onAck() {
    check(!this.ready, PROTOCOL_ERROR, 'HSK-007');
    this.ready = true;
    this.client.onReady(this);
  }

  onHeartbeat(subtype, payload) {
    if (subtype === PING) {
      this.pingBudget.charge();
      this.control(HEARTBEAT, PONG, ALL_ZERO, payload); // HBT-002
      return;
    }
    const at = this.pings.indexOf(payload.toString('hex'));
    if (at < 0) this.glitches.charge();
    this.pings.splice(0, at + 1); // HBT-007: it answers every earlier one
  }

  onWindowUpdate(id, limit) {
    check(limit < 2n ** 63n, FLOW_CONTROL_ERROR, 'FLW-003');
    const target = id === ALL_ZERO ? this : this.requests.get(id);
    if (!target || (target !== this && target.state !== 'OPEN')) return;
    if (limit > target.sendLimit) target.sendLimit = Number(limit);
    else this.glitches.charge();
    this.pump();
  }

  // Section 2.5, steps 10 to 13.
  onResponse({ flags, seq, id }, payload) {
    const exempt = flags & ERROR || (flags & END_STREAM && !payload.length);
    const cost = exempt ? 0 : 32 + payload.length;
    const request = this.requests.get(id);
    this.received += cost;
    check(this.received <= this.recvLimit, FLOW_CONTROL_ERROR, 'FLW-002');
    if (!request) {
      const late = flags & ERROR && this.uncovered.delete(id);
      check(late && decodeError(payload).code === DRAINING, PROTOCOL_ERROR, 'RID-004');
      return;
    }
    this.held += cost;
    this.grant(); // FLW-009
    request.responded = true; // REC-002: also when it turns out to be invalid
    request.received += cost;
    check(request.received <= request.recvLimit, FLOW_CONTROL_ERROR, 'FLW-002');
    check(seq === request.nextSeq++, SEQUENCE_ERROR, 'FRM-010');
    if (flags & ERROR) this.onErrorTerminal(request, decodeError(payload), seq);
    else if (request.state === 'KILLING') this.onKilled(request, flags, cost);
    else this.onContent(request, flags, seq, payload, cost);
    if (flags & END_STREAM) this.forget(request);
  }

  onErrorTerminal(request, { code, flags, text }, seq) {
    check(!(flags & NOT_PROCESSED) || seq === 0, PROTOCOL_ERROR, 'ADM-003');
    const untouched = flags & NOT_PROCESSED && request.state !== 'KILLING'; // STM-002
    this.forget(request);
    if (request.verdict !== null) request.fail('FAILED', request.verdict);
    else request.fail(untouched ? 'NOT_PROCESSED' : 'FAILED', code, { local: false, text });
  }

  onKilled(request, flags, cost) {
    this.consumed(request, cost);
    if (!(flags & END_STREAM)) return;
    this.forget(request);
    request.fail('FAILED', request.verdict ?? CANCELLED);
  }

  onContent(request, flags, seq, payload, cost) {
    let body = payload, headers = null;
    if (flags & META) [headers, body] = decodeMeta(payload, this.settings.MAX_METADATA_SIZE);
    if (headers && seq === 0) request.on.headers(headers);
    this.onBody(request, flags, body, cost);
    if (!(flags & END_STREAM) || request.state === 'CLOSED') return;
    this.forget(request);
    if (request.verdict !== null) request.fail('FAILED', request.verdict);
    else request.succeed(headers && seq > 0 ? headers : []);
  }

  // MSG-001 to MSG-003
  onBody(request, flags, body, cost) {
    request.chunkCost += cost;
    const silent = !body.length && !request.open && flags & (END_STREAM | META) && !(flags & MORE);
    request.size += body.length;
    if (request.size > this.settings.MAX_MESSAGE_SIZE) {
      request.verdict = MESSAGE_TOO_LARGE;
      if (!(flags & END_STREAM)) this.sendKill(request, MESSAGE_TOO_LARGE);
      request.dropInput();
      return;
    }
    if (!silent) request.chunks.push(body);
    request.open = Boolean(flags & MORE);
    if (silent || (request.open && !request.paused)) request.creditChunks();
    if (silent || request.open) return;
    const data = Buffer.concat(request.chunks), whole = request.chunkCost;
    Object.assign(request, { chunks: [], size: 0, chunkCost: 0 });
    if (request.paused) request.held.push({ data, cost: whole });
    else request.deliver(data, whole);
  }

  forget(request) {
    this.requests.delete(request.id);
    this.uncovered.delete(request.id);
    request.queue = []; // STM-003
    if (request.state !== 'KILLING') request.state = 'DONE';
    this.client.onTerminal(this);
    this.settle();
    setImmediate(() => this.pump()); // a place is free
  }

  onGoaway(payload) {
    const text = payload.readUInt16BE(16);
    check(18 + text <= payload.length, FRAME_SIZE_ERROR, 'PAY-001');
    const code = payload.readUInt32BE(0), last = Number(payload.readBigUInt64BE(4));
    for (const { ordinal, responded } of this.requests.values()) {
      check(!(ordinal > last && responded), PROTOCOL_ERROR, 'CLS-007');
    }
    this.goaway = this.goaway || code;
    this.lastOrdinal = Math.min(last, this.lastOrdinal);
    this.client.on.goaway(this, code, last, payload.readUInt32BE(12));
    for (const request of [...this.requests.values()]) {
      if (request.ordinal <= this.lastOrdinal) continue;
      this.requests.delete(request.id);
      this.uncovered.add(request.id);
      request.fail('NOT_PROCESSED', code, { text: payload.toString('utf8', 18, 18 + text) });
    }
    if (code !== NO_ERROR || !this.settled) this.closeAt = Math.min(this.closeAt, now() + 1_000);
    this.client.onLeaving(this);
    this.settle();
  }

  // --- the end

  // Close a connection that has nothing left to do (CLS-008, CLS-009).
  settle() {
    if (this.over || this.requests.size) return;
    if (this.leaving) this.finish('closed by this side', 'local', NO_ERROR, () => this.socket.end());
    else if (this.goaway === NO_ERROR) this.closeAt = Math.min(this.closeAt, now() + 2_000);
  }

  leave() {
    if (this.over || this.leaving) return;
    this.leaving = true;
    this.control(CONTROL, GOAWAY, ALL_ZERO, numbers([NO_ERROR, 4], [0, 8], [0, 4], [0, 2]));
    this.settle();
  }

  violated({ code, message }) {
    if (code !== null && this.preface) {
      const text = Buffer.from(message);
      const payload = [numbers([code, 4], [0, 8], [0, 4], [text.length, 2]), text];
      this.control(CONTROL, GOAWAY, ALL_ZERO, Buffer.concat(payload));
      this.finish(message, 'local', code, () => this.socket.end()); // CLS-002
    } else {
      this.refused = message === 'HSK-004';
      this.finish(message, 'local', null, () => this.socket.destroy()); // HSK-010
    }
  }

  abort(rule) {
    this.finish(rule, 'local', null, () => this.socket.resetAndDestroy());
  }

  lost(reason) {
    this.finish(reason, 'peer', this.goaway, () => this.socket.destroy());
    if (this.over) this.socket.end(); // the peer has answered our half-close
  }

  // Classify what is open, once, and let go of the socket (REC-001, REC-002).
  finish(reason, by, code, close) {
    if (this.over) return;
    this.over = true;
    this.closeAt = now() + 1_000;
    for (const request of [...this.requests.values()]) {
      const outcome = request.responded ? 'PARTIAL' : this.refused ? 'NOT_PROCESSED' : 'AMBIGUOUS';
      request.fail(outcome, request.verdict ?? code, { text: reason });
    }
    this.requests.clear();
    this.client.on.disconnected(this, this.ready, by, code, reason);
    this.client.onLeaving(this);
    close();
  }

  onClose() {
    this.lost('closed by the peer');
    clearInterval(this.ticker);
    this.client.onGone(this);
  }

  // --- time

  tick() {
    const time = now(), { IDLE_TIMEOUT_MS } = this.settings;
    if (this.over) {
      if (time >= this.closeAt) this.socket.destroy();
      return;
    }
    if (time >= this.closeAt) {
      this.finish('GOAWAY received', 'peer', this.goaway, () => this.socket.destroy());
      return;
    }
    const late = time - this.dialled > this.client.connectTimeoutMs && !this.ready;
    const slow = time - this.frameBegan > IDLE_TIMEOUT_MS;
    const silent = this.ready && time - this.heard > IDLE_TIMEOUT_MS;
    // What waits in the socket is read before anything is concluded from its absence (HBT-003).
    if (late || slow || silent) setImmediate(() => this.expire());
    if (this.unwritten) {
      if (time - this.progress > IDLE_TIMEOUT_MS) this.abort('HBT-006');
    } else if (this.settled && time - this.spoke >= this.peer.IDLE_TIMEOUT_MS * 0.4) {
      const opaque = randomBytes(8); // HBT-001
      this.pings.push(opaque.toString('hex'));
      this.control(HEARTBEAT, PING, ALL_ZERO, opaque);
    }
  }

  expire() {
    if (this.over) return;
    const time = now(), { IDLE_TIMEOUT_MS } = this.settings;
    if (time - this.dialled > this.client.connectTimeoutMs && !this.ready) {
      this.violated({ code: HANDSHAKE_TIMEOUT, message: 'HSK-008' });
    } else if (time - this.frameBegan > IDLE_TIMEOUT_MS) {
      this.violated({ code: HEARTBEAT_TIMEOUT, message: 'FRM-013' });
    } else if (this.ready && time - this.heard > IDLE_TIMEOUT_MS) {
      this.violated({ code: HEARTBEAT_TIMEOUT, message: 'HBT-003' });
    }
  }
}

// --- the client ---------------------------------------------------------------------------------

// `on` hears of connections: connected, disconnected, goaway.
export class Client {
  constructor(options, on) {
    const given = options.settings ?? {};
    const values = SETTING_TABLE.map(([, name, , , usual]) => [name, given[name] ?? usual]);
    for (const [, name, least, , , most] of SETTING_TABLE) {
      const value = given[name] ?? least;
      if (value < least || value > most) throw new RangeError(`${name} is out of range`);
    }
    Object.assign(this, options, { on, settings: Object.fromEntries(values) });
    this.requests = new Set(); // that have no result yet
    this.connections = new Set();
    this.current = null;
    this.dials = this.failures = 0;
    this.redial = this.closed = null;
    this.ticker = setInterval(() => this.tick(), TICK_MS);
    this.dial();
  }

  dial() {
    this.redial = null;
    this.current = new Connection(this, ++this.dials);
    this.connections.add(this.current);
  }

  // Start a request. Waiting ones begin in order (ADM-001).
  request(options, on) {
    const request = new Request(this, options, on);
    this.requests.add(request);
    const keys = request.headers.map(([key]) => key);
    if (!keys.includes('request-id')) {
      request.headers = [...request.headers, ['request-id', randomUUID()]]; // REC-007
    }
    const { subject, headers } = request;
    const named = /^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$/.test(subject) && subject.length <= 255;
    const sound = headers.every(([key, value]) => isKey(key) && isValue(value));
    const once = new Set(keys).size === keys.length && headers.length <= 64;
    if (!named || !sound || !once || keys.includes('attempt')) { // SET-003
      request.fail('NOT_SENT', INVALID_ARGUMENT, { text: 'not allowed', attempts: 0 });
    }
    return request;
  }

  // Give what waits to the connection. Called once the caller has said what the request holds.
  begin() {
    if (!this.current?.accepting) return;
    for (const request of this.requests) {
      if (request.connection) continue;
      try {
        this.current.open(request);
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        request.fail('NOT_SENT', error.code, { text: error.message, attempts: 0 });
      }
    }
  }

  onReady(connection) {
    connection.readyAt = now();
    this.on.connected(connection);
    this.begin();
  }

  onTerminal(connection) {
    if (connection.ready) this.failures = 0; // REC-004
  }

  // A connection takes nothing more: what was not written waits for another one (NOT_SENT).
  onLeaving(connection) {
    for (const request of this.requests) {
      if (request.connection !== connection || request.state !== 'IDLE') continue;
      this.putBack(request);
    }
    if (this.current !== connection) return;
    this.current = null;
    if (this.closed) return;
    if (connection.ready && now() - connection.readyAt > 10_000) this.failures = 0;
    const healthy = connection.ready && connection.goaway === NO_ERROR && !connection.over;
    const most = Math.min(this.backoffCapMs, this.backoffBaseMs * 2 ** Math.min(this.failures, 32));
    if (!healthy) this.failures += 1;
    this.redial = setTimeout(() => this.dial(), healthy ? 0 : Math.random() * most); // REC-004
  }

  // Undo what `Connection.open` has prepared.
  putBack(request) {
    const [first, ...rest] = request.queue;
    if (first.message && first.end && !first.data.length) {
      const end = { meta: null, data: first.data, end: true, message: false };
      request.queue = [{ ...first, meta: null, end: false }, end];
    } else {
      request.queue = first.message ? [{ ...first, meta: null }, ...rest] : rest;
    }
    request.connection = null;
  }

  onGone(connection) {
    this.connections.delete(connection);
    this.settle();
  }

  // Close in order; `done` is called when everything has ended (CLS-009).
  close(done) {
    if (this.closed) return;
    this.closed = done;
    clearTimeout(this.redial);
    for (const request of [...this.requests]) {
      if (request.state === 'IDLE') request.kill(CANCELLED);
    }
    for (const connection of this.connections) connection.leave();
    this.settle();
  }

  abort() {
    for (const connection of this.connections) connection.abort('closed by this side');
  }

  settle() {
    if (!this.closed || this.gone || this.connections.size || this.requests.size) return;
    clearInterval(this.ticker);
    this.gone = true;
    this.closed();
  }

  // Deadlines (REC-005). A ticker, since timers of Node end after 2^31 ms.
  tick() {
    const time = now();
    for (const request of [...this.requests]) {
      const late = time - request.deadline;
      if (request.state === 'IDLE') {
        const waited = time - request.since > this.waitMs;
        if (late > 0) request.kill(CANCELLED, DEADLINE_EXCEEDED);
        else if (waited) request.fail('NOT_SENT', null, { text: 'no chance', attempts: 0 });
      } else if (request.state !== 'KILLING' && late > 750) {
        request.kill(DEADLINE_EXCEEDED, DEADLINE_EXCEEDED);
      } else if (request.state === 'KILLING' && late > 1_750 && request.verdict === DEADLINE_EXCEEDED) {
        request.fail(request.responded ? 'PARTIAL' : 'AMBIGUOUS', DEADLINE_EXCEEDED);
      }
    }
  }
}
