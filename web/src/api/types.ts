// The wire: what the server sends and takes, as far as the page reads it. Every field may be missing.

export interface Usage {
  prompt_tokens?: number;
  completion_tokens?: number;
  prompt_tokens_details?: {cached_tokens?: number} | null;
}

export interface Timings {
  prompt_ms?: number;
  prompt_per_second?: number;
  predicted_ms?: number;
  predicted_per_second?: number;
}

export interface TopLogprob {
  token: string;
  logprob: number;
}

export interface LogprobEntry extends TopLogprob {
  top_logprobs?: TopLogprob[];
}

export interface ToolCallDelta {
  index?: number;
  id?: string;
  function?: {name?: string; arguments?: string};
}

export interface Delta {
  role?: string;
  content?: string | null;
  reasoning?: string | null;
  reasoning_content?: string | null;
  tool_calls?: ToolCallDelta[] | null;
}

export interface ChatChunk {
  choices?: {
    delta?: Delta;
    finish_reason?: string | null;
    logprobs?: {content?: LogprobEntry[] | null} | null;
  }[];
  usage?: Usage | null;
  timings?: Timings | null;
  error?: {message?: string; type?: string; code?: unknown} | string;
}

export interface WireToolCall {
  id: string;
  type: 'function';
  function: {name: string; arguments: string};
}

export interface WireMessage {
  role: string;
  content: string;
  reasoning_content?: string;
  tool_calls?: WireToolCall[];
  tool_call_id?: string;
}

export interface ModelCard {
  id: string;
  max_model_len?: number | null;
}

// GET /donar/info. What is not known yet is null.
export interface ServerInfo {
  status?: string;
  model?: string | null;
  precision?: string | null;
  max_model_len?: number | null;
  version?: string;
  loading?: {phase?: string; done_bytes?: number; total_bytes?: number; seconds?: number} | null;
  error?: string | null;
  running?: number | null;
  waiting?: number | null;
  generation_config?: Record<string, unknown> | null;  // the model's own sampling defaults
  chat?: boolean | null;                               // whether the model has a chat template
}
