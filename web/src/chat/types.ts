// What a conversation is, as it lies in IndexedDB and in an exported file.

export type Role = 'system' | 'user' | 'assistant' | 'tool';

export interface ToolCall {
  id: string;
  name: string;
  arguments: string;
}

export interface Stats {
  ttftMs?: number;             // measured in the page: request sent to first token seen
  tokensPerSecond?: number;    // the server's timings, else measured in the page
  completionTokens?: number;
  promptTokens?: number;
  promptPerSecond?: number;
  cachedTokens?: number;
}

// token, logprob, alternatives: arrays, because there is one for every token.
export type TokenLogprob = [token: string, logprob: number, top: [token: string, logprob: number][]];

export interface Message {
  id: string;
  parent: string | null;
  role: Role;
  content: string;             // as the model wrote it, <think> tags and all
  created: number;
  reasoning?: string;          // what came in its own field
  reasoningMs?: number;
  toolCalls?: ToolCall[];
  toolCallId?: string;
  model?: string;
  finish?: string;             // the server's finish_reason; "stopped": by the reader; "error"; absent: never finished
  error?: string;
  stats?: Stats;
  logprobs?: TokenLogprob[];
}

export interface ConversationHead {
  id: string;
  title: string;
  created: number;
  updated: number;
}

// A tree: the children of one message are alternatives, `selected` says which is shown (by default the last).
export interface Conversation extends ConversationHead {
  messages: Message[];
  selected: Record<string, string>;  // parent id, "" for the root -> child id
}
