// Numbers and strings as clients expect them.
#include "server/json_text.h"

#include <gtest/gtest.h>

#include <limits>

namespace donar::server {
namespace {

TEST(JsonText, numbers_look_as_python_prints_them) {
  EXPECT_EQ(to_json_text(json::value(0.5)), "0.5");
  EXPECT_EQ(to_json_text(json::value(1.0)), "1.0");
  EXPECT_EQ(to_json_text(json::value(-3)), "-3");
  EXPECT_EQ(to_json_text(json::value(uint64_t{18446744073709551615u})), "18446744073709551615");
  EXPECT_EQ(to_json_text(json::value(std::numeric_limits<double>::infinity())), "null");
  EXPECT_EQ(to_json_text(json::value(std::numeric_limits<double>::quiet_NaN())), "null");
}

TEST(JsonText, strings_are_escaped_and_utf8_passes) {
  EXPECT_EQ(to_json_text(json::value("a\"b\\c\n\r\t\x01ü🎉\x7f")),
            "\"a\\\"b\\\\c\\n\\r\\t\\u0001ü🎉\x7f\"");
}

TEST(JsonText, what_it_writes_can_be_read) {
  const char* text = R"({"a":[1,2.5,null,true,{"b":"c"}],"d":{},"e":[]})";
  EXPECT_EQ(to_json_text(*parse_json(text)), text);
}

}  // namespace
}  // namespace donar::server
