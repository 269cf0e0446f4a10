# Toolchain of the aarch64 preset: builds for Jetson, DGX Spark and other 64-bit Arm hosts on an x86 machine, and runs the tests under
# emulation. `max` has every extension that the kernels choose from; its pointer authentication in the quick variant.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -cpu max,pauth-impdef=on -L /usr/aarch64-linux-gnu)
