// Everything that a command line can say, as plain data. Flags fill it (flags.cpp), commands read
// it.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "base/log.h"
#include "engine/engine_config.h"
#include "engine/request.h"
#include "model/model.h"
#include "server/server.h"

namespace donar::app {

struct BenchOptions {
  int input_len = 512;   // prompt tokens of one sequence
  int output_len = 128;  // tokens that one sequence generates
  int context = 0;       // prompt tokens ahead of the timed decode; 0: input_len
  int batch_size = 1;    // sequences at a time
  int repeat = 3;        // timed runs; the median one counts
  bool json_only = false;
};

struct ChatOptions {
  std::string system;               // empty: what the template puts in by itself
  std::string prompt;               // not empty: answer this and exit
  int max_tokens = 0;               // 0: what fits
  engine::SamplingParams sampling;  // starts from generation_config.json; flags override
  std::vector<std::string> set;     // names of the fields that flags gave
};

struct Options {
  std::string model;         // path or repository id as given; empty: the default model
  std::string revision;      // of a repository id; empty: main
  std::string download_dir;  // cache root instead of HF_HUB_CACHE
  std::string tokenizer;     // a directory with another tokenizer.json; empty: the model's own
  std::string generation_config =
      "auto";                   // auto, vllm (the engine's defaults), or a directory or file
  std::string chat_template;    // path or inline Jinja; empty: the model's own
  std::string device = "auto";  // auto, cpu, cuda or cuda:N
  int threads = 0;              // CPU threads of a step; 0: all that the process may use
  std::chrono::seconds shutdown_timeout{
      10};                            // running requests may finish for this long after SIGTERM
  std::optional<LogLevel> log_level;  // none: info for serve, warnings for the others
  server::ServerConfig server;
  engine::EngineConfig engine;
  model::LoadOptions load;
  BenchOptions bench;
  ChatOptions chat;
};

}  // namespace donar::app
