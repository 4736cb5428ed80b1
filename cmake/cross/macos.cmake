# For a build of the core for macOS on 64-bit Arm on another system, by cmake/cross/clang++.
set(CMAKE_SYSTEM_NAME Darwin)
set(CMAKE_SYSTEM_PROCESSOR arm64)
set(CMAKE_CXX_COMPILER "${CMAKE_CURRENT_LIST_DIR}/clang++")
set(CMAKE_CXX_COMPILER_TARGET aarch64-macos.11.0)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)  # zig makes its C++ library anew for the flags of every link
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
# The target of that compiler says the version of the system, and nothing is renamed when it is installed.
set(CMAKE_OSX_DEPLOYMENT_TARGET "" CACHE STRING "")
set(CMAKE_OSX_SYSROOT "" CACHE STRING "")
set(CMAKE_INSTALL_NAME_TOOL true)
set(CMAKE_MODULE_LINKER_FLAGS_INIT "-s")
