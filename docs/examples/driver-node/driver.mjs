// A driver of wmx-driver/1 (section 19.4) for the client in wmx.mjs.
//
//   muxwire-conformance check-client --client-cmd 'node driver.mjs {host} {port}'
//
// It reads operations, one JSON object a line, and writes events. Standard error is for people.

import { writeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { CANCELLED, Client } from './wmx.mjs';

// What this client can do. The judge asks for nothing else.
const FEATURES = ['settings', 'timing', 'sent', 'headers', 'pause', 'bidi', 'close'];

const [host, port] = process.argv.slice(2);
const refs = new Map(); // ref -> Driven
let client = null;
let closing = false;

function say(event, members = {}) {
  const line = Buffer.from(JSON.stringify({ event, ...members }) + '\n');
  for (let at = 0; at < line.length; ) at += write(line.subarray(at));
}

function write(octets) {
  try {
    return writeSync(1, octets);
  } catch (error) {
    if (error.code === 'EAGAIN') return 0; // the pipe is full
    process.exit(1); // nobody reads
  }
}

class Invalid extends Error {}

// --- one request --------------------------------------------------------------------------------

// Everything that is said about a request goes through here, so the order is that of the events:
// messages first, then exactly one of `end` and `error`.
class Driven {
  constructor(ref) {
    this.ref = ref;
    this.messages = 0;
    this.over = this.killed = false;
    this.trailers = null; // of a success that waits for `resume`
  }

  start(options) {
    const { ref } = this;
    this.request = client.request(options, {
      headers: (headers) => this.killed || say('headers', { ref, headers }),
      message: (data) => this.message(data),
      sent: (messages) => say('sent', { ref, messages }),
      end: (trailers) => {
        this.trailers = trailers;
        if (!this.request.paused) this.end();
      },
      error: (error) => this.error(error),
    });
  }

  message(data) {
    if (this.killed) return;
    this.messages += 1;
    say('message', { ref: this.ref, body_b64: data.toString('base64') });
  }

  end() {
    const { ref, messages, trailers } = this;
    if (this.over) return;
    this.over = true;
    say('end', { ref, messages, attempts: 1, trailers });
    settle();
  }

  error({ outcome, code, local, text, attempts }) {
    if (this.over) return;
    this.request?.resume(); // an error brings out what a pause held back
    this.over = true;
    const { ref, messages } = this;
    say('error', { ref, class: outcome, code, local, messages, attempts, message: text });
    settle();
  }

  send({ body, end }) {
    if (this.request.ended) throw new Invalid('the request was ended');
    if (body !== null || end) this.request.push(body, end);
  }

  kill(reason) {
    this.killed = true;
    this.request.kill(reason);
    if (this.trailers) this.error({ outcome: 'FAILED', code: CANCELLED, local: true, attempts: 1 });
  }

  resume() {
    this.request.resume();
    if (this.trailers) this.end();
  }
}

// --- operations ---------------------------------------------------------------------------------

const octets = (text) => (text === undefined ? null : Buffer.from(text, 'base64'));

const operations = {
  connect(op) {
    if (client || closing) throw new Invalid('connect comes once');
    const [address = `${host}:${port}`, ...more] = op.addrs ?? [];
    if ((op.connections ?? 1) > 1 || more.length) {
      say('unsupported', { op: 'connect', feature: 'connections' });
      return;
    }
    const colon = address.lastIndexOf(':');
    const options = {
      host: op.addrs ? address.slice(0, colon).replace(/^\[|\]$/g, '') : host,
      port: Number(address.slice(colon + 1)),
      settings: op.settings,
      connectTimeoutMs: op.connect_timeout_ms ?? 5_000,
      backoffBaseMs: op.backoff_base_ms ?? 100,
      backoffCapMs: op.backoff_cap_ms ?? 10_000,
      waitMs: op.wait_ms ?? 10_000,
    };
    client = new Client(options, {
      connected: ({ number }) => say('connected', { conn: number, addr: address, version: 1 }),
      disconnected: ({ number }, handshake, by, code, reason) =>
        say('disconnected', { conn: number, addr: address, handshake, by, code, reason }),
      goaway: ({ number }, code, last, grace) =>
        say('goaway', { conn: number, code, last_ordinal: last, grace_ms: grace }),
    });
  },

  request(op) {
    if (!client || closing) throw new Invalid('not between connect and close');
    if (refs.has(op.ref)) throw new Invalid('the ref was used before');
    const driven = new Driven(op.ref);
    refs.set(op.ref, driven);
    driven.start({
      subject: op.subject,
      headers: op.headers,
      idempotent: op.idempotent,
      timeoutMs: op.timeout_ms,
      paused: op.paused ?? false,
    });
    if (driven.over) return;
    const hold = op.hold_open ?? false;
    let bodies = (op.messages_b64 ?? []).map(octets);
    if (!op.messages_b64) bodies = op.body_b64 === undefined && hold ? [] : [octets(op.body_b64 ?? '')];
    bodies.forEach((body, i) => driven.request.push(body, !hold && i === bodies.length - 1));
    if (!hold && !bodies.length) driven.request.push(null, true);
    client.begin();
  },

  send: (op) => of(op)?.send({ body: octets(op.body_b64), end: op.end ?? false }),
  stop: (op) => of(op)?.request.stop(op.reason ?? CANCELLED),
  kill: (op) => of(op)?.kill(op.reason ?? CANCELLED),
  pause: (op) => of(op)?.request.pause(),
  resume: (op) => of(op)?.resume(),
  sync: (op) => say('synced', { id: op.id }),
  close,
};

// Return the request of an operation, or nothing if it has finished.
function of({ ref }) {
  const driven = refs.get(ref);
  if (!driven) throw new Invalid('there is no such request');
  return driven.over ? undefined : driven;
}

function take(line) {
  let op = null;
  try {
    op = JSON.parse(line);
    if (!Object.hasOwn(operations, op.op)) throw new Invalid('there is no such operation');
    operations[op.op](op);
  } catch (error) {
    if (!(error instanceof Invalid || error instanceof SyntaxError || error instanceof RangeError)) throw error;
    const { ref } = op ?? {};
    say('invalid', { op: op?.op ?? null, ref, message: error.message });
  }
}

// --- the end ------------------------------------------------------------------------------------

function close() {
  if (closing) return;
  closing = true;
  if (client) client.close(settle);
  else exit();
}

// `closed` comes when the client is done and a paused success, if any, has been told.
function settle() {
  if (client?.gone && [...refs.values()].every(({ over }) => over)) exit();
}

function exit() {
  say('closed');
  process.exit(0);
}

// The end of the input means close, with an exit within 2 s.
function inputOver() {
  close();
  setTimeout(() => {
    client?.abort();
    for (const driven of refs.values()) if (!driven.over) driven.resume();
  }, 500);
}

say('ready', { driver: 'wmx.mjs', protocol: 'wmx-driver/1', transports: ['tcp'], features: FEATURES });
createInterface({ input: process.stdin }).on('line', take).on('close', inputOver);
