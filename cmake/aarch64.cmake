# Toolchain of the aarch64 preset: builds for Jetson, DGX Spark and other 64-bit Arm hosts on an x86 machine. Tests run under emulation;
# QEMU_CPU chooses the CPU, by default one with every extension.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -L /usr/aarch64-linux-gnu)
