#include "base/cgroup.h"

#include <gtest/gtest.h>

#include <fstream>
#include <string>

namespace donar {
namespace {

namespace fs = std::filesystem;

// A made-up root with proc/self/cgroup and sys/fs/cgroup.
class FakeRoot {
 public:
  FakeRoot() : path_(fs::path(testing::TempDir()) / ("cgroup_" + std::to_string(++count_))) {
    fs::remove_all(path_);
  }
  ~FakeRoot() { fs::remove_all(path_); }
  void write(const std::string& name, const std::string& text) {
    const fs::path file = path_ / name;
    fs::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  CgroupLimits read() const { return read_cgroup_limits(path_); }

 private:
  static inline int count_ = 0;
  fs::path path_;
};

TEST(Cgroup, without_files_or_limits_nothing_is_limited) {
  FakeRoot root;
  EXPECT_EQ(root.read().cpus, 0);
  EXPECT_FALSE(root.read().has_memory_limit);
  root.write("proc/self/cgroup", "0::/a\n");
  root.write("sys/fs/cgroup/a/cpu.max", "max 100000\n");
  root.write("sys/fs/cgroup/a/memory.max", "max\n");
  EXPECT_EQ(root.read().cpus, 0);
  EXPECT_FALSE(root.read().has_memory_limit);
}

TEST(Cgroup, v2_takes_the_tightest_group_on_the_way_up) {
  FakeRoot root;
  root.write("proc/self/cgroup", "0::/pod/app\n");
  root.write("sys/fs/cgroup/pod/app/cpu.max", "400000 100000\n");
  root.write("sys/fs/cgroup/pod/cpu.max", "150000 100000\n");
  root.write("sys/fs/cgroup/pod/memory.max", "1000\n");
  root.write("sys/fs/cgroup/pod/memory.current", "900\n");
  root.write("sys/fs/cgroup/pod/memory.stat", "anon 500\ninactive_file 300\nactive_file 100\n");
  EXPECT_DOUBLE_EQ(root.read().cpus, 1.5);
  ASSERT_TRUE(root.read().has_memory_limit);
  EXPECT_EQ(root.read().memory_available, 400u);
}

TEST(Cgroup, in_a_container_the_mounts_top_is_the_group) {
  FakeRoot root;
  root.write("proc/self/cgroup", "0::/host/path/that/is/not/mounted\n");
  root.write("sys/fs/cgroup/cpu.max", "200000 100000\n");
  EXPECT_DOUBLE_EQ(root.read().cpus, 2.0);
}

TEST(Cgroup, v1_controllers) {
  FakeRoot root;
  root.write("proc/self/cgroup", "4:memory:/job\n1:cpu,cpuacct:/job\n0::/\n");
  root.write("sys/fs/cgroup/cpu/job/cpu.cfs_quota_us", "50000\n");
  root.write("sys/fs/cgroup/cpu/job/cpu.cfs_period_us", "100000\n");
  root.write("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n");
  root.write("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  root.write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
  root.write("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "5000\n");
  root.write("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "6000\n");
  EXPECT_DOUBLE_EQ(root.read().cpus, 0.5);
  ASSERT_TRUE(root.read().has_memory_limit);
  EXPECT_EQ(root.read().memory_available, 0u) << "over the limit: nothing left, not a huge number";
}

TEST(Cgroup, malformed_lines_are_skipped) {
  FakeRoot root;
  root.write("proc/self/cgroup", "\nnonsense\n1:cpu\n::\n0::/a\n");
  root.write("sys/fs/cgroup/a/cpu.max", "not a number\n");
  EXPECT_EQ(root.read().cpus, 0);
}

}  // namespace
}  // namespace donar
