#include "app/term/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace donar::app::term {
namespace {

using testing::HasSubstr;

TEST(ProgressLine, shows_phase_share_size_and_rate) {
  const std::string line = progress_line({"weights", 500000000, 1000000000, 0.5});
  EXPECT_THAT(line, testing::AllOf(HasSubstr("weights"), HasSubstr(" 50 %"),
                                   HasSubstr("############............"), HasSubstr("1.0 GB/s")));
}

TEST(ProgressLine, a_phase_without_bytes_is_its_name_and_too_many_bytes_are_full) {
  EXPECT_EQ(progress_line({"warm-up", 0, 0, 0.0}), "warm-up");
  EXPECT_THAT(progress_line({"weights", 12, 10, 0.0}), HasSubstr("100 %"));
}

}  // namespace
}  // namespace donar::app::term
