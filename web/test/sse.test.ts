import assert from 'node:assert/strict';
import {test} from 'node:test';
import {readEvents, SseParser} from '../src/api/sse';

const all = (text: string, cut: number): string[] => {
  const parser = new SseParser();
  const data: string[] = [];
  for (let at = 0; at < text.length; at += cut) data.push(...parser.push(text.slice(at, at + cut)).map((event) => event.data));
  return data;
};

test('an event is the same however its bytes are cut and its lines end', () => {
  for (const ending of ['\n', '\r\n', '\r']) {
    const text = [': keep-alive', 'data: {"a": 1}', '', 'event: error', 'data:one', 'data: two', 'id: 7', '', 'data: [DONE]', '', ''].join(ending);
    for (let cut = 1; cut <= text.length; cut++) {
      assert.deepEqual(all(text, cut), ['{"a": 1}', 'one\ntwo', '[DONE]'], `cut ${cut}, ending ${JSON.stringify(ending)}`);
    }
  }
});

test('a byte order mark is dropped, comments and blank events give nothing', () => {
  assert.deepEqual(all('\ufeffdata: x\n\n', 100), ['x']);
  assert.deepEqual(all(': ping\n\n\n\nevent: e\n\n', 3), []);
});

test('the event name travels with its data and not beyond', () => {
  const events = new SseParser().push('event: error\ndata: a\n\ndata: b\n\n');
  assert.deepEqual(events, [{event: 'error', data: 'a'}, {event: 'message', data: 'b'}]);
});

test('an event that is not ended by a blank line is not delivered', () => {
  assert.deepEqual(all('data: half\n', 4), []);
});

test('a character split between two reads stays whole', async () => {
  const bytes = new TextEncoder().encode('data: 漢字🙂\n\n');
  for (let cut = 1; cut < bytes.length; cut++) {
    const stream = new ReadableStream<Uint8Array>({
      start(controller) {
        controller.enqueue(bytes.slice(0, cut));
        controller.enqueue(bytes.slice(cut));
        controller.close();
      },
    });
    const data: string[] = [];
    for await (const event of readEvents(stream)) data.push(event.data);
    assert.deepEqual(data, ['漢字🙂']);
  }
});
