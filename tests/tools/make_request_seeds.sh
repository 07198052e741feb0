#!/usr/bin/env bash
# Writes the seeds of request_fuzz: a byte that chooses the method, then a message. Run once; the output is committed.
#
# Usage: tests/tools/make_request_seeds.sh, from the repository's root
set -euo pipefail
out=tests/fuzz/corpus/request
mkdir -p "$out"
seed() {  # NAME METHOD TYPE FILE TEXT
  { printf "%b" "\\x0$2"; protoc -I proto --encode="vernier.v1.$3" "vernier/v1/$4.proto" <<<"$5"; } >"$out/$1"
}
seed generate_text 0 GenerateRequest inference 'prompt: "Once" model: "fake:nf4" sampling {max_tokens: 4 temperature: 0.5
  top_p: 0.9 top_k: 40 seed: 7 stop: "END" logprobs: 3 stop_token_ids: 5 logit_bias {key: 3 value: -1} n: 2}'
seed generate_ids 0 GenerateRequest inference 'token_ids {ids: 1 ids: 2} sampling {min_p: 0.1 frequency_penalty: 1
  presence_penalty: -1 repetition_penalty: 1.1 max_tokens: 9 min_tokens: 2 ignore_eos: true prompt_logprobs: 1}
  priority: PRIORITY_CLASS_LOW time_limit_seconds: 1.5 truncate_prompt_tokens: 1 cache_salt: "a.b" request_id: "r"'
seed generate_chat 0 GenerateRequest inference 'chat {messages {role: "system" content: "a"} messages {role: "user"
  content: "<turn>"} add_generation_prompt: false} special_tokens_as_text: true'
seed score 1 ScoreRequest inference 'text: "Once upon" window: 4 logprobs: 2 variant: "int8"'
seed score_ids 1 ScoreRequest inference 'token_ids {ids: 1 ids: 258}'
seed compare 2 CompareRequest evaluation 'base {prompt: "Hi" sampling {max_tokens: 2}} variants: "fp16" variants: "nf4"
  reference: "nf4" mode: BOTH forced_text: "there" aa_control: true overlap_k: 5 timing: SERIAL'
seed compare_ids 2 CompareRequest evaluation 'base {token_ids {ids: 9}} mode: TEACHER_FORCED forced_ids {ids: 1 ids: 2}'
seed tokenize 3 TokenizeRequest inference 'text: "Once" add_special_tokens: false parse_special: true'
seed tokenize_chat 3 TokenizeRequest inference 'chat {messages {role: "user" content: "Hi"}}'
seed tokenize_tools 3 TokenizeRequest inference 'chat {messages {role: "user" content: "Hi"}
  messages {role: "assistant" reasoning_content: "why" tool_calls {id: "1" name: "f" arguments: "{\"x\": [1, 2.5, null]}"}}
  messages {role: "tool" tool_call_id: "1" name: "f" content: "ok"}
  tools: "[{\"type\": \"function\", \"function\": {\"name\": \"f\", \"parameters\": {}}}]"
  template_args {key: "enable_thinking" value {bool_value: false}} template_args {key: "n" value {int_value: -3}}}'
seed generate_tools 0 GenerateRequest inference 'chat {messages {role: "assistant" tool_calls {name: "f"} tool_calls {name: "g"
  arguments: "{}"}} messages {role: "user" content: "<|im_end|>"} tools: "[]"
  template_args {key: "t" value {string_value: "<|im_end|>"}} template_args {key: "d" value {double_value: 0.5}}}'
