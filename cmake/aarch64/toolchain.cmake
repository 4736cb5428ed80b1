# For a build of the core on another machine than a 64-bit Arm, with Debian's cross compiler.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
# Every 64-bit Arm has this much, NEON included.
set(CMAKE_CXX_FLAGS_INIT "-march=armv8-a")
# CMake asks the interpreter for its folders only through an emulator. The one of sysroot.sh starts its own.
set(CMAKE_CROSSCOMPILING_EMULATOR env)
