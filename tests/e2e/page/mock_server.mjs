// A scripted OpenAI server that serves web/dist as donar does, with the same Content-Security-Policy.
// Tests set `mock.reply` to what the next answers are; `mock.requests` holds the bodies that came.
import {readFileSync} from 'node:fs';
import {createServer} from 'node:http';
import {extname, join} from 'node:path';
import {fileURLToPath} from 'node:url';

const kDist = fileURLToPath(new URL('../../../web/dist/', import.meta.url));
const kTypes = {'.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml'};
const kModel = 'SmolLM2-135M-Instruct';

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

export const words = (text) => text.match(/\s*\S+\s*?/g) ?? [];

// A reply is what the model writes: {text | tokens, delayMs, firstMs, finish, reasoning, toolCalls, errorAfter, dropAfter, usage, logprobs},
// or an HTTP error {status, message, headers}. A function gets the request body and returns one.
export class MockServer {
  constructor() {
    this.reset();
  }

  reset() {
    this.reply = {text: 'Hello there.'};
    this.info = {
      status: 'ready', model: kModel, precision: 'Q4_1', max_model_len: 8192, version: '0.1.0',
      loading: null, running: 0, waiting: 0, kv_usage: 0,
    };
    this.infoExists = true;
    this.apiKey = null;
    this.requests = [];
    this.aborted = 0;
    this.models = [{id: kModel, max_model_len: 8192}];
    this.foreign = [];       // requests for anything the page should not ask for
  }

  async start(port = 0) {
    this.server = createServer((request, response) => {
      this.handle(request, response).catch((error) => {
        if (!response.destroyed) response.destroy(error);
      });
    });
    await new Promise((resolve) => this.server.listen(port, '127.0.0.1', resolve));
    this.port = this.server.address().port;
    this.url = `http://127.0.0.1:${this.port}/`;
  }

  async stop() {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  json(response, status, body, headers = {}) {
    response.writeHead(status, {'Content-Type': 'application/json', ...headers});
    response.end(JSON.stringify(body));
  }

  async handle(request, response) {
    const path = new URL(request.url, this.url).pathname;
    const open = path === '/health' || request.method === 'GET' && this.file(path, null);
    if (this.apiKey !== null && !open && request.headers.authorization !== `Bearer ${this.apiKey}`) {
      return this.json(response, 401, {error: {message: 'Missing or wrong API key', type: 'invalid_request_error'}});
    }
    if (path === '/health') {
      const ready = this.info.status === 'ready';
      return this.json(response, ready ? 200 : 503, ready ? {} : {status: this.info.status});
    }
    if (path === '/donar/info' && this.infoExists) return this.json(response, 200, this.info);
    if (path === '/v1/models') return this.json(response, 200, {object: 'list', data: this.models});
    if (path === '/tokenize' || path === '/v1/chat/completions') {
      let text = '';
      for await (const piece of request) text += piece;
      const body = JSON.parse(text);
      if (path === '/tokenize') return this.json(response, 200, {count: words(JSON.stringify(body.messages)).length});
      this.requests.push({body, headers: request.headers});
      return this.chat(body, response);
    }
    if (this.file(path, response)) return;
    this.foreign.push(path);
    this.json(response, 404, {error: {message: `no ${path}`}});
  }

  file(path, response) {
    const name = path === '/' ? 'index.html' : path.slice(1);
    if (!/^[\w.-]+$/.test(name)) return false;
    let content;
    try {
      content = readFileSync(join(kDist, name));
    } catch {
      return false;
    }
    response?.writeHead(200, {
      'Content-Type': kTypes[extname(name)] ?? 'application/octet-stream',
      'Content-Security-Policy': `default-src 'self'`,
    });
    response?.end(content);
    return true;
  }

  async chat(body, response) {
    const reply = typeof this.reply === 'function' ? this.reply(body) : this.reply;
    if (reply.status) {
      return this.json(response, reply.status, {error: {message: reply.message, type: 'error', code: reply.status}}, reply.headers);
    }
    response.writeHead(200, {'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache'});
    let open = true;
    response.on('close', () => {
      open = false;
      if (!response.writableEnded) this.aborted++;
    });
    const send = (chunk) => response.write(`data: ${JSON.stringify({id: 'chatcmpl-1', object: 'chat.completion.chunk', model: kModel, ...chunk})}\n\n`);
    const delta = (fields, more = {}) => send({choices: [{index: 0, delta: fields, finish_reason: null, ...more}]});
    delta({role: 'assistant', content: ''});
    if (reply.firstMs) await sleep(reply.firstMs);
    let sent = 0;
    for (const piece of words(reply.reasoning ?? '')) {
      if (!open) return;
      delta({reasoning: piece, reasoning_content: piece});
      sent++;
      await sleep(reply.delayMs ?? 2);
    }
    const tokens = reply.tokens ?? words(reply.text ?? '');
    const perWrite = reply.perWrite ?? 1;
    for (const [index, token] of tokens.entries()) {
      if (!open) return;
      if (index === reply.errorAfter) {
        response.write(`data: ${JSON.stringify({error: {message: reply.message, type: 'server_error', code: 500}})}\n\n`);
        return response.end('data: [DONE]\n\n');
      }
      if (index === reply.dropAfter) return response.destroy();
      const logprobs = body.logprobs ? {logprobs: {content: [{
        token, logprob: index % 3 === 0 ? -0.02 : index % 3 === 1 ? -0.8 : -2.6,
        top_logprobs: [{token, logprob: -0.8}, {token: ' other', logprob: -1.2}, {token: ' third', logprob: -3.1}],
      }]}} : {};
      delta({content: token}, logprobs);
      sent++;
      if (index % perWrite === perWrite - 1) await sleep(reply.delayMs ?? 2);
    }
    for (const [index, call] of (reply.toolCalls ?? []).entries()) {
      delta({tool_calls: [{index, id: `call_${index}`, type: 'function', function: {name: call.name, arguments: ''}}]});
      for (const part of call.arguments.match(/.{1,8}/gs)) delta({tool_calls: [{index, function: {arguments: part}}]});
    }
    send({choices: [{index: 0, delta: {}, finish_reason: reply.finish ?? 'stop'}]});
    if (body.stream_options?.include_usage) {
      const prompt = words(JSON.stringify(body.messages)).length;
      send({
        choices: [],
        usage: {prompt_tokens: prompt, completion_tokens: sent, total_tokens: prompt + sent, prompt_tokens_details: {cached_tokens: 96}},
        timings: {prompt_ms: 20, prompt_per_second: 2100, predicted_ms: sent * 5, predicted_per_second: 187.3},
      });
    }
    response.end('data: [DONE]\n\n');
  }
}
