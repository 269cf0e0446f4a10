// Chat templates against Transformers' own results: our templates with one feature each, and
// published ones where they are at hand.
#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <cstdlib>
#include <filesystem>
#include <map>

#include "tests/text/template_golden.h"

namespace donar::text {
namespace {

std::string sha256(std::string_view text) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  EVP_Digest(text.data(), text.size(), digest, &size, EVP_sha256(), nullptr);
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) hex += fmt::format("{:02x}", digest[i]);
  return hex;
}

TEST(TemplateGolden, own_templates_render_as_transformers_renders_them) {
  const json::value golden = read_golden("templates_own.json");
  size_t count = 0;
  for (const json::value& entry : golden.at("cases").as_array()) {
    const json::object& row = entry.as_object();
    const std::string name(row.at("name").as_string());
    const auto rendered =
        render_golden(std::string(row.at("template").as_string()),
                      {{"bos_token", "<B>"}, {"eos_token", "<E>"}}, golden_input(row));
    if (row.if_contains("error") != nullptr) {
      EXPECT_FALSE(rendered) << name << " must fail, but gives: " << rendered->text;
    } else {
      ASSERT_TRUE(rendered) << name << ": " << rendered.error().message;
      EXPECT_EQ(rendered->text, std::string(row.at("text").as_string())) << name;
    }
    ++count;
  }
  EXPECT_EQ(count, 64u);
}

TEST(TemplateGolden, features_render_as_jinja_renders_them) {
  const json::value golden = read_golden("templates_features.json");
  for (const json::value& entry : golden.at("cases").as_array()) {
    ChatInput input = golden_input(golden.as_object());
    const std::string source(entry.at("template").as_string());
    const auto rendered = render_golden(source, {{"bos_token", "<s>"}}, input);
    if (entry.as_object().if_contains("error") != nullptr) {
      EXPECT_FALSE(rendered) << source << "\nmust fail, but gives: " << rendered->text;
    } else {
      ASSERT_TRUE(rendered) << source << "\n" << rendered.error().message;
      EXPECT_EQ(rendered->text, std::string(entry.at("text").as_string())) << source;
    }
  }
}

TEST(TemplateGolden, published_templates_render_as_transformers_renders_them) {
  const char* folder = std::getenv("DONAR_TEMPLATES");
  if (folder == nullptr)
    GTEST_SKIP() << "set DONAR_TEMPLATES to a folder made by tools/fetch_templates.py";
  const json::value golden = read_golden("templates_published.json");
  const json::object& templates = golden.at("templates").as_object();
  std::map<std::string, std::string> sources;
  for (const auto& member : templates) {
    const std::string name(member.key());
    const Result<std::string> source =
        read_text_file(std::filesystem::path(folder) / (name + ".jinja"));
    ASSERT_TRUE(source) << source.error().message;
    ASSERT_EQ(sha256(*source), std::string(member.value().at("sha256").as_string())) << name;
    sources[name] = *source;
  }
  size_t count = 0;
  for (const json::value& row : golden.at("cases").as_array()) {
    const std::string name(row.at("template").as_string());
    const std::string input(row.at("input").as_string());
    const auto rendered = render_golden(
        sources.at(name), golden_tokens(templates.at(name).at("special_tokens").as_object()),
        golden_input(golden.at("inputs").at(input).as_object()));
    if (row.as_object().if_contains("error") != nullptr) {
      EXPECT_FALSE(rendered) << name << " with '" << input
                             << "' must fail, but gives: " << rendered->text;
    } else {
      ASSERT_TRUE(rendered) << name << " with '" << input << "': " << rendered.error().message;
      EXPECT_EQ(sha256(rendered->text), std::string(row.at("sha256").as_string()))
          << name << " with '" << input << "':\n"
          << rendered->text;
    }
    ++count;
  }
  EXPECT_EQ(count, 850u);
}

}  // namespace
}  // namespace donar::text
