// Runs a keyward server with a data directory of its own, on a port that the system chooses.

import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';

const START = 60_000;
const STOP = 30_000;
const COMMAND = 300_000;

// Variables of this machine must not affect the test.
const environment = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('KEYWARD_')));

// A server must not outlive this script.
const children = new Set();
process.once('exit', () => children.forEach((it) => it.kill('SIGKILL')));
process.once('SIGTERM', () => process.exit(143));
process.once('SIGINT', () => process.exit(130));

export class Server {
  #binary;
  #folder = mkdtempSync(join(tmpdir(), 'keyward-console-'));
  #process = null;
  #log = '';

  constructor(binary, settings = '') {
    this.#binary = resolve(binary);
    writeFileSync(join(this.#folder, 'keyward.toml'), settings);
  }

  static async start(binary, settings) {
    const server = new Server(binary, settings);
    try {
      // The port of this address stays free between a stop and a start: clients on this machine connect from 127.0.0.1.
      await server.#listen('127.0.0.2:0');
      server.rootKey = readFileSync(join(server.#folder, 'data', 'initial-root-key'), 'utf8').trim();
    } catch (error) {
      await server.end();
      throw error;
    }
    return server;
  }

  // Starts the stopped server again, at the same address.
  startAgain() {
    return this.#listen(new URL(this.origin).host);
  }

  async #listen(address) {
    const child = this.#spawn(['serve', '--listen', address]);
    this.#process = child;
    child.stderr.on('data', (text) => { this.#log = (this.#log + text).slice(-4000); });
    const lines = createInterface({ input: child.stdout });
    this.origin = await within(START, 'the address of the server', new Promise((found, failed) => {
      lines.on('line', (line) => {
        const url = line.match(/http:\/\/[0-9.:]+/);
        if (url) {
          found(url[0]);
        }
      });
      child.once('exit', (code) => failed(new Error(`the server ended with ${code}: ${this.#log}`)));
    }));
  }

  async stop() {
    const child = this.#process;
    this.#process = null;
    if (!child || child.exitCode !== null) {
      return;
    }
    const ended = new Promise((done) => child.once('exit', done));
    child.kill('SIGTERM');
    await within(STOP, 'the end of the server', ended).catch((error) => {
      child.kill('SIGKILL');
      throw error;
    });
  }

  async end() {
    await this.stop().finally(() => rmSync(this.#folder, { recursive: true, force: true }));
  }

  // Runs a command of the same binary on the same data directory, and returns what it prints.
  async run(args, input = '') {
    const child = this.#spawn(args);
    const printed = { out: '', err: '' };
    child.stdout.on('data', (text) => { printed.out += text; });
    child.stderr.on('data', (text) => { printed.err += text; });
    child.stdin.end(input);
    const code = await within(COMMAND, `keyward ${args[0]}`, new Promise((done) => child.once('close', done)))
      .finally(() => child.kill('SIGKILL'));
    if (code !== 0) {
      throw new Error(`keyward ${args.join(' ')} ended with ${code}: ${printed.err}${printed.out}`);
    }
    return printed.out;
  }

  #spawn(args) {
    const place = ['--config', join(this.#folder, 'keyward.toml'), '--data-dir', join(this.#folder, 'data')];
    const child = spawn(this.#binary, [...args, ...place], { cwd: this.#folder, env: environment });
    children.add(child);
    child.once('exit', () => children.delete(child));
    child.stdout.setEncoding('utf8');
    child.stderr.setEncoding('utf8');
    child.stdin.on('error', () => {}); // A command may end before it read its input.
    return child;
  }

  // Sends a request as a program does, and returns the status and the body.
  async call(method, path, body, key = this.rootKey) {
    const response = await fetch(`${this.origin}/api/v1/${path}`, {
      method,
      headers: { 'X-API-Key': key, ...(body === undefined ? {} : { 'Content-Type': 'application/json' }) },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(30_000),
    });
    const text = await response.text();
    return { status: response.status, body: text ? JSON.parse(text) : null };
  }

  // Sends a request that must succeed, and returns the body.
  async done(method, path, body, key) {
    const answer = await this.call(method, path, body, key);
    if (300 <= answer.status) {
      throw new Error(`${method} ${path} was answered ${answer.status}: ${JSON.stringify(answer.body)}`);
    }
    return answer.body;
  }

  createKey(name, scopes, more = {}) {
    return this.done('POST', 'api-keys', { name, scopes, ...more });
  }

  // Uses the key as the protected API does, and returns the verdict.
  async verify(key) {
    return (await this.done('POST', 'api-keys/verify', { key, clientIp: '127.0.0.1' })).code;
  }
}

function within(millis, what, promise) {
  let timer;
  const late = new Promise((_, failed) => {
    timer = setTimeout(() => failed(new Error(`${what}: nothing after ${millis / 1000} seconds`)), millis);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
