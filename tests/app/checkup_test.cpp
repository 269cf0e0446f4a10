// donar doctor: every fault of a machine, as facts or as files below a made-up root.
#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

#include "app/checkup/diagnose.h"
#include "app/checkup/probe.h"
#include "app/checkup/report.h"

namespace donar::app::checkup {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

// A machine on which all is well.
Facts healthy() {
  Facts facts;
  facts.program = {true, "13.0", "87,90a"};
  facts.host = {"Some CPU", "avx512", 16, 128'000'000'000, 100'000'000'000, ""};
  facts.driver.pci_device = true;
  facts.driver.module_version = facts.driver.version = "580.159.04";
  facts.driver.nodes = {{"/dev/nvidiactl", true, "root"}, {"/dev/nvidia0", true, "root"}};
  facts.driver.user = "ann";
  facts.driver.cuda_version = 13000;
  GpuFacts gpu;
  gpu.name = "NVIDIA H100";
  gpu.capability = 90;
  gpu.num_sms = 132;
  gpu.l2_bytes = 50 << 20;
  gpu.total_bytes = gpu.free_bytes = gpu.available_bytes = 80'000'000'000;
  gpu.watts = 62.4;
  gpu.watts_limit = 700.0;
  facts.driver.gpus = {gpu};
  facts.libraries = {{"cuBLASLt", "13.0.2", ""}, {"NCCL", "", "libnccl.so.2: no such file"}};
  return facts;
}

// The one problem that is found.
std::string problem_of(const Facts& facts) {
  const std::vector<Finding> findings = diagnose(facts);
  EXPECT_EQ(findings.size(), 1u) << report(facts, findings, "0");
  if (findings.size() != 1) return {};
  EXPECT_TRUE(findings.front().is_problem) << findings.front().text;
  return findings.front().text;
}

std::string note_of(const Facts& facts) {
  const std::vector<Finding> findings = diagnose(facts);
  EXPECT_EQ(findings.size(), 1u);
  if (findings.size() != 1) return {};
  EXPECT_FALSE(findings.front().is_problem) << findings.front().text;
  return findings.front().text;
}

TEST(Checkup, nothing_is_wrong_with_a_healthy_machine) {
  const Facts facts = healthy();
  EXPECT_THAT(diagnose(facts), IsEmpty());
  const std::string text = report(facts, {}, "0.1.0");
  EXPECT_THAT(text, AllOf(HasSubstr("0.1.0, CUDA 13.0 for 87,90a"),
                          HasSubstr("580.159.04, for CUDA 13.0"), HasSubstr("NVIDIA H100"),
                          HasSubstr("compute capability 9.0, 132 SMs"), HasSubstr("62 W of 700 W"),
                          HasSubstr("this program has code for it"), HasSubstr("cuBLASLt 13.0.2"),
                          HasSubstr("NCCL is not there"), HasSubstr("Nothing that is needed")));
}

TEST(Checkup, a_machine_without_a_gpu_is_no_problem) {
  Facts facts;
  facts.driver.load_error = "libcuda.so.1: cannot open shared object file";
  EXPECT_THAT(note_of(facts), HasSubstr("run on the CPU"));
}

TEST(Checkup, a_missing_driver_is_told_from_missing_nodes_and_from_a_container) {
  Facts facts = healthy();
  facts.driver.gpus.clear();
  facts.driver.nodes.clear();
  EXPECT_THAT(problem_of(facts), HasSubstr("nvidia-modprobe"));
  facts.driver.in_container = true;
  EXPECT_THAT(problem_of(facts), AllOf(HasSubstr("container"), HasSubstr("--gpus all")));
  facts.driver.in_container = false;
  facts.driver.module_version.clear();
  EXPECT_THAT(problem_of(facts), AllOf(HasSubstr("not loaded"), HasSubstr("install it")));
}

TEST(Checkup, a_node_without_permission_names_group_and_user) {
  Facts facts = healthy();
  facts.driver.gpus.clear();
  facts.driver.nodes[1] = {"/dev/nvidia0", false, "video"};
  EXPECT_THAT(problem_of(facts),
              AllOf(HasSubstr("/dev/nvidia0"), HasSubstr("usermod -aG video ann")));
}

TEST(Checkup, a_library_that_does_not_load_is_the_drivers_part) {
  Facts facts = healthy();
  facts.driver.gpus.clear();
  facts.driver.load_error = "libcuda.so.1: cannot open shared object file";
  EXPECT_THAT(problem_of(facts), AllOf(HasSubstr("libcuda.so.1: cannot open"),
                                       HasSubstr("580.159.04"), Not(HasSubstr("container"))));
  facts.driver.in_container = true;
  EXPECT_THAT(problem_of(facts), HasSubstr("NVIDIA_DRIVER_CAPABILITIES"));
}

TEST(Checkup, codes_of_the_driver_become_advice) {
  Facts facts = healthy();
  facts.driver.gpus.clear();
  const auto advice = [&](int code) {
    facts.driver.init_code = code;
    return problem_of(facts);
  };
  EXPECT_THAT(advice(100), HasSubstr("dmesg"));
  EXPECT_THAT(advice(802), HasSubstr("nvidia-fabricmanager"));
  EXPECT_THAT(advice(803), HasSubstr("reboot"));
  EXPECT_THAT(advice(999), HasSubstr("nvidia-uvm"));
  EXPECT_THAT(advice(304), HasSubstr("code 304"));
  facts.driver.hidden = "7";
  EXPECT_THAT(advice(100), HasSubstr("CUDA_VISIBLE_DEVICES is \"7\""));
}

TEST(Checkup, a_driver_of_an_older_major_version_is_too_old) {
  Facts facts = healthy();
  facts.driver.cuda_version = 12080;
  facts.driver.version = "570.86";
  EXPECT_THAT(problem_of(facts), AllOf(HasSubstr("570.86"), HasSubstr("CUDA 12.8"),
                                       HasSubstr("CUDA 13.0"), HasSubstr("580 or newer")));
  facts.program.toolkit = "12.9";
  EXPECT_THAT(diagnose(facts), IsEmpty());  // a newer minor version of the toolkit runs
  facts.program = {};
  EXPECT_THAT(note_of(facts), HasSubstr("without CUDA"));
}

TEST(Checkup, a_device_without_code_says_how_to_build_for_it) {
  Facts facts = healthy();
  facts.driver.gpus[0].capability = 121;
  EXPECT_THAT(problem_of(facts),
              AllOf(HasSubstr("compute capability 12.1"), HasSubstr("./dev build --cuda 121a")));
  facts.driver.gpus[0].capability = 75;
  EXPECT_THAT(problem_of(facts), HasSubstr("Donar runs on 8.7, 9.0, 11.0 and 12.1"));
  EXPECT_THAT(report(facts, diagnose(facts), "0"), HasSubstr("has no code for it"));
}

TEST(Checkup, a_device_that_does_not_open_or_is_busy_is_said) {
  Facts facts = healthy();
  facts.driver.gpus[0].open_code = 46;
  EXPECT_THAT(problem_of(facts), HasSubstr("exclusive mode"));
  facts.driver.gpus[0].open_code = 2;
  EXPECT_THAT(problem_of(facts), HasSubstr("no memory left"));
  facts.driver.gpus[0].open_code = 214;
  EXPECT_THAT(problem_of(facts), HasSubstr("code 214"));
  facts = healthy();
  facts.driver.gpus[0].available_bytes = 10'000'000'000;
  EXPECT_THAT(note_of(facts), HasSubstr("in use by other programs"));
  facts = healthy();
  facts.driver.gpus[0].persistent = false;
  EXPECT_THAT(note_of(facts), HasSubstr("nvidia-persistenced"));
}

TEST(Checkup, power_modes_are_named_as_nvpmodel_does) {
  const std::string configuration =
      "# comment\n< POWER_MODEL ID=0 NAME=MAXN >\nX 1\n< POWER_MODEL ID=2 NAME=MODE_30W >\n";
  EXPECT_EQ(nvpmodel_mode("pmode:0002 fmode:quiet", configuration), "MODE_30W (2)");
  EXPECT_EQ(nvpmodel_mode("pmode:0000", configuration), "MAXN (0)");
  EXPECT_EQ(nvpmodel_mode("pmode:0007", configuration), "7");
  EXPECT_EQ(nvpmodel_mode("pmode:", configuration), "");
  EXPECT_EQ(nvpmodel_mode("", ""), "");
}

class CheckupFilesTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "donar-root-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    root_ = pattern;
  }
  void TearDown() override { std::filesystem::remove_all(root_); }
  void write(const std::string& path, const std::string& text) {
    std::filesystem::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  DriverFacts driver() {
    DriverFacts facts;
    probe_files(root_, facts);
    return facts;
  }
  std::filesystem::path root_;
};

TEST_F(CheckupFilesTest, an_empty_root_has_no_hardware) {
  EXPECT_FALSE(driver().has_hardware());
  EXPECT_EQ(probe_host(root_).power_mode, "");
}

TEST_F(CheckupFilesTest, a_gpu_is_found_on_the_bus_and_its_audio_is_none) {
  write("sys/bus/pci/devices/0000:01:00.1/vendor", "0x10de\n");
  write("sys/bus/pci/devices/0000:01:00.1/class", "0x040300\n");
  EXPECT_FALSE(driver().pci_device);
  write("sys/bus/pci/devices/0000:01:00.0/vendor", "0x10de\n");
  write("sys/bus/pci/devices/0000:01:00.0/class", "0x030200\n");
  EXPECT_TRUE(driver().pci_device);
}

TEST_F(CheckupFilesTest, the_kernel_module_says_its_version) {
  write("proc/driver/nvidia/version",
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.159.04  Tue Jan 1\nGCC version: 12\n");
  EXPECT_EQ(driver().module_version, "580.159.04");
  write("sys/module/nvidia/version", "580.1\n");
  EXPECT_EQ(driver().module_version, "580.1");
}

TEST_F(CheckupFilesTest, nodes_board_and_container_are_seen) {
  write("dev/nvidiactl", "");
  write("dev/nvidia0", "");
  write("proc/device-tree/compatible", std::string("nvidia,p3768-0000\0nvidia,tegra234\0", 33));
  write("proc/device-tree/model", std::string("NVIDIA Jetson Orin Nano\0", 24));
  const DriverFacts facts = driver();
  ASSERT_EQ(facts.nodes.size(), 2u);
  EXPECT_EQ(facts.nodes[0].path, "/dev/nvidiactl");
  EXPECT_TRUE(facts.nodes[0].permitted);
  EXPECT_FALSE(facts.nodes[0].group.empty());
  EXPECT_EQ(facts.board, "NVIDIA Jetson Orin Nano");
  EXPECT_FALSE(facts.in_container);
  write(".dockerenv", "");
  EXPECT_TRUE(driver().in_container);
}

TEST_F(CheckupFilesTest, a_host_is_described_by_its_files) {
  write("proc/cpuinfo", "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\n");
  write("proc/meminfo", "MemTotal:       32768 kB\nMemFree: 1 kB\n");
  write("var/lib/nvpmodel/status", "pmode:0001\n");
  write("etc/nvpmodel.conf", "< POWER_MODEL ID=1 NAME=15W >\n");
  const HostFacts host = probe_host(root_);
  EXPECT_EQ(host.cpu, "Some CPU @ 2 GHz");
  EXPECT_EQ(host.total_bytes, 32768u * 1024);
  EXPECT_EQ(host.power_mode, "15W (1)");
}

TEST_F(CheckupFilesTest, a_cpu_without_a_name_has_that_of_its_board) {
  write("proc/cpuinfo", "processor\t: 0\nCPU implementer\t: 0x41\n");
  write("sys/class/dmi/id/product_name", "A Desk Computer\n");
  EXPECT_EQ(probe_host(root_).cpu, "A Desk Computer");
  write("proc/device-tree/model", "A Board\n");
  EXPECT_EQ(probe_host(root_).cpu, "A Board");
}

}  // namespace
}  // namespace donar::app::checkup
