// What users type: vLLM's spellings, config files, mistakes.
#include "app/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

#include "app/flags.h"
#include "base/file.h"
#include "tensor/cuda.h"

namespace donar::app {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

CommandLine parse(const std::vector<std::string>& args) {
  Result<CommandLine> line = parse_command_line(args);
  EXPECT_TRUE(line) << line.error().message;
  return line ? std::move(*line) : CommandLine();
}
std::string error_of(const std::vector<std::string>& args) {
  Result<CommandLine> line = parse_command_line(args);
  EXPECT_FALSE(line.has_value());
  return line ? "" : line.error().message;
}

TEST(CommandLine, serve_takes_vllms_usual_flags) {
  const CommandLine line = parse({"serve",
                                  "org/name",
                                  "--host",
                                  "0.0.0.0",
                                  "--port=9000",
                                  "--max-model-len",
                                  "32k",
                                  "--max-num-seqs",
                                  "8",
                                  "--max-num-batched-tokens",
                                  "512",
                                  "--no-enable-prefix-caching",
                                  "--kv-cache-dtype",
                                  "float16",
                                  "--dtype",
                                  "half",
                                  "--served-model-name",
                                  "a",
                                  "b",
                                  "--api-key",
                                  "k1",
                                  "--api-key",
                                  "k2",
                                  "--generation-config",
                                  "vllm",
                                  "--seed",
                                  "7",
                                  "--kv-cache-memory-bytes",
                                  "1G"});
  EXPECT_EQ(line.command, "serve");
  const Options& o = line.options;
  EXPECT_EQ(o.model, "org/name");
  EXPECT_EQ(o.server.host, "0.0.0.0");
  EXPECT_EQ(o.server.port, 9000);
  EXPECT_EQ(o.engine.max_model_len, 32000);
  EXPECT_EQ(o.engine.max_num_seqs, 8);
  EXPECT_EQ(o.engine.max_num_batched_tokens, 512);
  EXPECT_FALSE(o.engine.prefix_caching);
  EXPECT_EQ(o.engine.kv_dtype, DType::kF16);
  EXPECT_EQ(o.load.dtype, DType::kF16);
  EXPECT_EQ(o.engine.seed, 7u);
  EXPECT_EQ(o.engine.kv_cache_bytes, int64_t{1} << 30);
  EXPECT_EQ(o.generation_config, "vllm");
  EXPECT_THAT(o.server.model_names, ElementsAre("a", "b"));
  EXPECT_THAT(o.server.api_keys, ElementsAre("k1", "k2"));
  EXPECT_THAT(line.warnings, IsEmpty());
}

TEST(CommandLine, defaults_are_a_local_server_with_an_own_choice_of_model) {
  const Options o = parse({"serve"}).options;
  EXPECT_EQ(o.model, "");
  EXPECT_EQ(o.server.host, "127.0.0.1");
  EXPECT_EQ(o.server.port, 8000);
  EXPECT_TRUE(o.server.allowed_hosts.empty());
  EXPECT_THAT(
      parse({"serve", "m", "--allowed-hosts", "a.example", "b"}).options.server.allowed_hosts,
      ElementsAre("a.example", "b"));
  EXPECT_EQ(o.engine.kv_dtype, std::nullopt);
  EXPECT_EQ(parse({"serve", "m", "--kv-cache-dtype", "auto"}).options.engine.kv_dtype,
            std::nullopt);
  EXPECT_THAT(o.server.allowed_origins, IsEmpty());
}

TEST(CommandLine, underscores_and_dashes_are_the_same) {
  EXPECT_EQ(parse({"serve", "m", "--max_model_len", "100"}).options.engine.max_model_len, 100);
  EXPECT_EQ(parse({"serve", "m", "--max_model-len=100"}).options.engine.max_model_len, 100);
  EXPECT_EQ(parse({"serve", "--model", "m_x/y_z"}).options.model, "m_x/y_z")
      << "values keep their underscores";
}

TEST(CommandLine, last_value_wins) {
  EXPECT_EQ(parse({"serve", "--port", "1", "--port", "2"}).options.server.port, 2);
  EXPECT_FALSE(parse({"serve", "--enable-prefix-caching", "--no-enable-prefix-caching"})
                   .options.engine.prefix_caching);
  EXPECT_TRUE(parse({"serve", "--no-enable-prefix-caching", "--enable-prefix-caching"})
                  .options.engine.prefix_caching);
  EXPECT_FALSE(parse({"serve", "--enable-prefix-caching=false"}).options.engine.prefix_caching);
}

TEST(CommandLine, unknown_flag_suggests_the_nearest) {
  EXPECT_THAT(error_of({"serve", "m", "--max-model-length", "3"}),
              HasSubstr("did you mean --max-model-len?"));
  EXPECT_THAT(error_of({"serve", "m", "--prot", "3"}), HasSubstr("did you mean --port?"));
  EXPECT_THAT(error_of({"serve", "m", "--zzzzzzzzzzzz"}),
              AllOf(HasSubstr("unknown flag"), testing::Not(HasSubstr("did you mean"))));
  EXPECT_THAT(error_of({"serv", "m"}), HasSubstr("did you mean serve?"));
  EXPECT_THAT(error_of({"bench", "m", "--port", "3"}), HasSubstr("not a flag of `donar bench`"));
}

TEST(CommandLine, unsupported_flag_is_refused_aloud) {
  EXPECT_THAT(error_of({"serve", "m", "--enable-lora"}),
              HasSubstr("--enable-lora is not supported yet"));
  EXPECT_THAT(error_of({"serve", "m", "--speculative-config",
                        R"({"method":"eagle3","num_speculative_tokens":5})"}),
              HasSubstr("--speculative-config is not supported yet"));
  EXPECT_THAT(error_of({"serve", "m", "-tp", "2"}),
              HasSubstr("--tensor-parallel-size 2 is not supported yet"));
  EXPECT_THAT(error_of({"serve", "m", "--kv-cache-dtype", "fp8"}),
              HasSubstr("fp8 is not supported yet"));
}

TEST(CommandLine, a_value_that_changes_nothing_is_accepted_quietly) {
  EXPECT_THAT(parse({"serve", "m", "-tp", "1", "--block-size", "16", "--cpu-offload-gb", "0",
                     "--no-enable-lora"})
                  .warnings,
              IsEmpty());
}

TEST(CommandLine, ignored_flags_warn_once_with_the_reason) {
  const CommandLine line = parse({"serve", "m", "--max-log-len", "5", "--trust-remote-code"});
  ASSERT_EQ(line.warnings.size(), 2u);
  for (const std::string& warning : line.warnings)
    EXPECT_THAT(warning, HasSubstr("is ignored because"));
}

TEST(CommandLine, flags_of_the_gpu_are_honoured_or_warned_about_on_the_cpu) {
  const std::vector<std::string> flags = {"--enforce-eager", "--gpu-memory-utilization", "0.5",
                                          "--batch-invariant"};
  std::vector<std::string> words = {"serve", "m", "--device", "cuda:1"};
  words.insert(words.end(), flags.begin(), flags.end());
  const CommandLine cuda = parse(words);
  EXPECT_EQ(cuda.options.device, "cuda:1");
  EXPECT_TRUE(cuda.options.engine.enforce_eager);
  EXPECT_TRUE(cuda.options.engine.batch_invariant);
  EXPECT_EQ(cuda.options.engine.gpu_memory_utilization, 0.5);
  EXPECT_EQ(cuda.warnings.size(), kCuda ? 0u : 3u);
  words[3] = "cpu";
  const CommandLine cpu = parse(words);
  ASSERT_EQ(cpu.warnings.size(), 3u);
  for (const std::string& warning : cpu.warnings)
    EXPECT_THAT(warning, HasSubstr("is ignored because"));
}

TEST(CommandLine, devices_are_named_as_they_are_counted) {
  for (const std::string name : {"auto", "cpu", "cuda", "cuda:0", "cuda:7"})
    EXPECT_EQ(parse({"serve", "m", "--device", name}).options.device, name);
  EXPECT_EQ(parse({"serve", "m"}).options.device, "auto");
  for (const std::string name : {"gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:N", "tpu"})
    EXPECT_THAT(error_of({"serve", "m", "--device", name}), HasSubstr("--device: ")) << name;
  for (const std::string share : {"0", "1.5", "-1", "x"})
    EXPECT_THAT(error_of({"serve", "m", "--gpu-memory-utilization", share}),
                HasSubstr("--gpu-memory-utilization: "))
        << share;
}

TEST(CommandLine, dotted_json_keys_belong_to_their_flag) {
  EXPECT_THAT(error_of({"serve", "m", "--speculative-config.method", "eagle3",
                        "--speculative_config.num_speculative_tokens=5"}),
              HasSubstr("--speculative-config is not supported yet"));
  EXPECT_EQ(parse({"serve", "m", "--compilation-config.level", "0", "-O3"}).warnings.size(), 1u);
}

TEST(CommandLine, values_are_checked) {
  EXPECT_THAT(error_of({"serve", "m", "--port", "70000"}),
              AllOf(HasSubstr("--port"), HasSubstr("0 to 65535")));
  EXPECT_THAT(error_of({"serve", "m", "--max-model-len", "many"}), HasSubstr("32k (32,000)"));
  EXPECT_THAT(error_of({"serve", "m", "--dtype", "int4"}), HasSubstr("bfloat16"));
  EXPECT_THAT(error_of({"serve", "m", "--api-key", ""}), HasSubstr("empty key"));
  EXPECT_THAT(error_of({"serve", "a", "--model", "b"}), HasSubstr("two models"));
  EXPECT_THAT(error_of({"serve", "a", "b"}), HasSubstr("unexpected argument \"b\""));
  EXPECT_FALSE(parse_command_line({"serve", "m", "--port"}).has_value());
}

TEST(CommandLine, allowed_origins_takes_vllms_json_list) {
  EXPECT_THAT(parse({"serve", "m", "--allowed-origins", R"(["http://a","http://b"])"})
                  .options.server.allowed_origins,
              ElementsAre("http://a", "http://b"));
  EXPECT_THAT(parse({"serve", "m", "--allowed-origins", "http://a"}).options.server.allowed_origins,
              ElementsAre("http://a"));
}

TEST(CommandLine, help_names_every_command_and_honoured_flag) {
  EXPECT_THAT(parse({"--help"}).text, AllOf(HasSubstr("serve"), HasSubstr("run"),
                                            HasSubstr("bench"), HasSubstr("version")));
  EXPECT_EQ(parse({}).text, parse({"--help"}).text);
  const std::string help = parse({"serve", "--help"}).text;
  for (const Flag& flag : all_flags()) {
    const bool shown = flag.status == FlagStatus::kHonoured && (flag.commands & kServe) != 0;
    EXPECT_TRUE(!shown || help.find(flag.name) != help.npos) << flag.name;
  }
}

TEST(CommandLine, version_is_a_command_and_a_flag) {
  EXPECT_EQ(parse({"version"}).command, "version");
  EXPECT_EQ(parse({"--version"}).command, "version");
}

TEST(CommandLine, bench_and_run_have_their_own_flags) {
  const Options bench = parse({"bench", "m", "--threads", "2", "--input-len", "64", "--output-len",
                               "8", "--batch-size", "4", "--context", "96", "--json"})
                            .options;
  EXPECT_EQ(bench.threads, 2);
  EXPECT_EQ(bench.bench.input_len, 64);
  EXPECT_EQ(bench.bench.output_len, 8);
  EXPECT_EQ(bench.bench.batch_size, 4);
  EXPECT_EQ(bench.bench.context, 96);
  EXPECT_TRUE(bench.bench.json_only);
  const Options run =
      parse({"run", "m", "-p", "hi", "--temperature", "0", "--system", "be brief"}).options;
  EXPECT_EQ(run.chat.prompt, "hi");
  EXPECT_EQ(run.chat.system, "be brief");
  EXPECT_THAT(run.chat.set, ElementsAre("temperature"));
}

TEST(Flags, every_row_is_complete_and_unique) {
  std::vector<std::string_view> names;
  for (const Flag& flag : all_flags()) {
    EXPECT_TRUE(flag.name.starts_with("--")) << flag.name;
    EXPECT_EQ(flag.name.find('_'), flag.name.npos) << flag.name;
    EXPECT_EQ(flag.status == FlagStatus::kHonoured, flag.apply != nullptr) << flag.name;
    EXPECT_TRUE(flag.status != FlagStatus::kIgnored || !flag.help.empty())
        << flag.name << " needs its reason";
    EXPECT_EQ(flag.kind == FlagKind::kSwitch, flag.value_name.empty()) << flag.name;
    EXPECT_EQ(std::count(names.begin(), names.end(), flag.name), 0)
        << flag.name << " is there twice";
    names.push_back(flag.name);
  }
}

TEST(Flags, user_guide_lists_every_flag) {
  Result<std::string> guide =
      read_text_file(std::string(DONAR_TEST_DATA) + "/../../docs/user-guide.md");
  ASSERT_TRUE(guide) << guide.error().message;
  for (const Flag& flag : all_flags())
    EXPECT_NE(guide->find("`" + std::string(flag.name)), std::string::npos) << flag.name;
}

class ConfigFileTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "donar-config-XXXXXX").string();
    const int fd = mkstemp(pattern.data());
    ASSERT_GE(fd, 0);
    close(fd);
    path_ = pattern;
  }
  void TearDown() override { std::filesystem::remove(path_); }
  void write(const std::string& text) { std::ofstream(path_) << text; }
  std::string path_;
};

TEST_F(ConfigFileTest, keys_are_flags_and_the_command_line_wins) {
  write(
      "# a comment\n---\nmodel: org/name  # trailing\nport: 9001\nmax_model_len: "
      "32K\nenable-prefix-caching: false\n"
      "served-model-name: [a, \"b, c\"]\napi-key:\n  - 'k''1'\n  - k2\ntrust-remote-code: "
      "true\nenable-chunked-prefill: true\n");
  const CommandLine line = parse({"serve", "--config", path_, "--port", "9002"});
  EXPECT_EQ(line.options.model, "org/name");
  EXPECT_EQ(line.options.server.port, 9002);
  EXPECT_EQ(line.options.engine.max_model_len, 32768);
  EXPECT_FALSE(line.options.engine.prefix_caching);
  EXPECT_TRUE(line.options.engine.chunked_prefill);
  EXPECT_THAT(line.options.server.model_names, ElementsAre("a", "b, c"));
  EXPECT_THAT(line.options.server.api_keys, ElementsAre("k'1", "k2"));
  EXPECT_EQ(line.warnings.size(), 1u);
}

TEST_F(ConfigFileTest, errors_name_the_file_and_line) {
  write("port: 1\nprot: 2\n");
  EXPECT_THAT(error_of({"serve", "--config", path_}),
              AllOf(HasSubstr(path_), HasSubstr("line 2"), HasSubstr("prot")));
  write("compilation-config:\n  level: 0\n");
  EXPECT_THAT(error_of({"serve", "--config=" + path_}),
              AllOf(HasSubstr("line 2"), HasSubstr("JSON")));
  write("port: \"1\n");
  EXPECT_THAT(error_of({"serve", "--config", path_}), HasSubstr("quote"));
  write("port\n");
  EXPECT_THAT(error_of({"serve", "--config", path_}), HasSubstr("key: value"));
  write("port: [1, 2]\n");
  EXPECT_THAT(error_of({"serve", "--config", path_}), HasSubstr("takes one value"));
  EXPECT_THAT(error_of({"serve", "--config", "/absent.yaml"}), HasSubstr("/absent.yaml"));
  EXPECT_THAT(error_of({"serve", "--config"}), HasSubstr("needs a file"));
}

}  // namespace
}  // namespace donar::app
