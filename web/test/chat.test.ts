import assert from 'node:assert/strict';
import {test} from 'node:test';
import {messageOf} from '../src/api/client';
import {wireMessages} from '../src/chat/request';
import {kFields, problemOf, samplingBody} from '../src/chat/settings';
import {splitThinking} from '../src/chat/thinking';
import {fromFile, toFile} from '../src/chat/transfer';
import {append, emptyConversation, pathOf, remove, select, titleFrom} from '../src/chat/tree';
import type {Message} from '../src/chat/types';
import {SpeedMeter} from '../src/chat/speed';
import {dayOf} from '../src/format';

const message = (id: string, parent: string | null, role: Message['role'] = 'user', content = id): Message =>
    ({id, parent, role, content, created: 1});

test('thinking is split off, whole, open and half tagged', () => {
  assert.deepEqual(splitThinking('<think>a</think>\n\nb'), {reasoning: 'a', answer: 'b', open: false});
  assert.deepEqual(splitThinking('<think>a</thi'), {reasoning: 'a', answer: '', open: true});
  assert.deepEqual(splitThinking('<thi'), {reasoning: '', answer: '', open: true});
  assert.deepEqual(splitThinking('thought\n</think>\nb'), {reasoning: 'thought', answer: 'b', open: false});
  assert.deepEqual(splitThinking('use `</think>` here'), {reasoning: '', answer: 'use `</think>` here', open: false});
  assert.deepEqual(splitThinking('<b>'), {reasoning: '', answer: '<b>', open: false});
});

test('branches: the newest is shown, another can be chosen, removing takes what hangs below', () => {
  const conversation = emptyConversation();
  append(conversation, message('q', null));
  append(conversation, message('a1', 'q', 'assistant'));
  append(conversation, message('q2', 'a1'));
  append(conversation, message('a2', 'q', 'assistant'));
  const ids = () => pathOf(conversation).map(({id}) => id);
  assert.deepEqual(ids(), ['q', 'a2']);
  select(conversation, conversation.messages[1]!);
  assert.deepEqual(ids(), ['q', 'a1', 'q2']);
  remove(conversation, 'a1');
  assert.deepEqual(ids(), ['q', 'a2']);
  assert.equal(conversation.messages.length, 2);
});

test('a request has the system prompt first and no earlier thoughts, a continued answer is sent as it is', () => {
  const path = [message('hi', null), message('a', 'hi', 'assistant', '<think>x</think>y')];
  assert.deepEqual(wireMessages(path, 'be brief', false), [
    {role: 'system', content: 'be brief'}, {role: 'user', content: 'hi'}, {role: 'assistant', content: 'y'}]);
  assert.equal(wireMessages(path, '', true)[1]!.content, '<think>x</think>y');
});

test('only settings that are set and valid are sent', () => {
  assert.deepEqual(samplingBody({system: '', values: {}}), {});
  assert.deepEqual(
      samplingBody({system: '', values: {temperature: '0,5', top_p: '7', top_k: 'x', seed: '42', stop: 'a\n\nb', logprobs: 'true'}}),
      {temperature: 0.5, seed: 42, stop: ['a', 'b'], logprobs: true, top_logprobs: 5});
  const field = (name: string) => kFields.find((candidate) => candidate.name === name)!;
  assert.match(problemOf(field('top_p'), '0')!, /above 0/);
  assert.match(problemOf(field('seed'), '1.5')!, /whole/);
  assert.equal(problemOf(field('temperature'), ''), null);
});

test('an exported file is read back, a broken one is refused with its place', () => {
  const conversation = {...emptyConversation(), title: 'T'};
  append(conversation, message('q', null));
  append(conversation, {...message('a', 'q', 'assistant'), stats: {ttftMs: 21}, logprobs: [['x', -1, [['y', -2]]]]});
  assert.deepEqual(fromFile(toFile([conversation])), [conversation]);
  assert.throws(() => fromFile('nonsense'), /not JSON/);
  assert.throws(() => fromFile('{"format":"other"}'), /not exported by Donar/);
  conversation.messages.reverse();
  assert.throws(() => fromFile(toFile([conversation])), /conversation 1: message a has no parent/);
});

test('error messages are found in every shape servers use', () => {
  assert.equal(messageOf({error: {message: 'm', code: 1}}), 'm');
  assert.equal(messageOf({error: 'm'}), 'm');
  assert.equal(messageOf({object: 'error', message: 'm'}), 'm');
  assert.equal(messageOf({detail: 'm'}), 'm');
  assert.equal(messageOf({}), null);
});

test('titles are one short line, days have names', () => {
  assert.equal(titleFrom('\n## Hello\nworld'), 'Hello');
  assert.equal(titleFrom('x'.repeat(100)).length, 58);
  const now = new Date(2026, 4, 20, 12).getTime();
  assert.equal(dayOf(now - 3_600_000, now), 'Today');
  assert.equal(dayOf(new Date(2026, 4, 19, 23).getTime(), now), 'Yesterday');
  assert.equal(dayOf(new Date(2026, 4, 17).getTime(), now), 'Sunday');
  assert.equal(dayOf(new Date(2025, 4, 17).getTime(), now), 'May 17, 2025');
});

test('the live speed is that of the last second, and falls when nothing comes', () => {
  const meter = new SpeedMeter();
  assert.equal(meter.sample(100), null);
  for (let time = 0; time < 2000; time += 10) meter.add(time, 2);
  assert.equal(meter.sample(2000)!.now, 198);
  assert.equal(meter.sample(2500)!.now, 98);
  assert.deepEqual(meter.sample(9000), {now: 0, samples: [198, 98, 0]});
});
