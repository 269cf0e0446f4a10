// From a path of messages to the body of /v1/chat/completions, and to the same thing as a curl line.
import {address} from '../api/client';
import type {WireMessage} from '../api/types';
import {samplingBody, type Settings} from './settings';
import {splitThinking} from './thinking';
import type {Message} from './types';

// Earlier thoughts are not sent again: templates of reasoning models drop them anyway, and they fill the context.
export function wireMessages(path: Message[], system: string, continued: boolean): WireMessage[] {
  const result: WireMessage[] = [];
  if (system.trim() !== '' && path[0]?.role !== 'system') result.push({role: 'system', content: system});
  path.forEach((message, index) => {
    const whole = continued && index === path.length - 1;
    const wire: WireMessage = {
      role: message.role,
      content: whole || message.role !== 'assistant' ? message.content : splitThinking(message.content).answer,
    };
    if (whole && message.reasoning) wire.reasoning_content = message.reasoning;
    if (message.toolCalls && message.toolCalls.length > 0) {
      wire.tool_calls = message.toolCalls.map(
          (call) => ({id: call.id, type: 'function', function: {name: call.name, arguments: call.arguments}}));
    }
    if (message.toolCallId !== undefined) wire.tool_call_id = message.toolCallId;
    result.push(wire);
  });
  return result;
}

export function requestBody(
    model: string, path: Message[], settings: Settings, continued: boolean): Record<string, unknown> {
  return {
    ...(model === '' ? {} : {model}),
    messages: wireMessages(path, settings.system, continued),
    stream: true,
    stream_options: {include_usage: true},
    ...samplingBody(settings),
    ...(continued ? {continue_final_message: true, add_generation_prompt: false} : {}),
  };
}

// The key itself never goes into a text that is made to be pasted elsewhere.
export function curlLine(body: object, withKey: boolean): string {
  const json = JSON.stringify(body, null, 2).replaceAll('\'', `'\\''`);
  return `curl -N ${address('v1/chat/completions')} \\\n` +
      (withKey ? `  -H "Authorization: Bearer $DONAR_API_KEY" \\\n` : '') +
      `  -H 'Content-Type: application/json' \\\n  -d '${json}'`;
}
