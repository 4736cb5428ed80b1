# Finds Eigen 3.4 or 5 and defines Eigen3::Eigen; -DEigen3_DIR=... chooses one.
#
# The headers of the PyPI package cmeel-eigen, pip's build requirement, go before a system's older ones; they lie
# in a folder of their own below site-packages, which find_package does not look into unless told.
set(roots "")
foreach(prefix IN LISTS CMAKE_PREFIX_PATH)
  list(APPEND roots "${prefix}/cmeel.prefix")
endforeach()
# No version is asked for: Eigen 3.4.0 refuses a range, a request for 3.4 refuses 5, and a refusal forgets Eigen3_DIR.
find_package(Eigen3 CONFIG QUIET PATHS ${roots} NO_DEFAULT_PATH)
if(NOT Eigen3_FOUND)
  find_package(Eigen3 CONFIG QUIET)
endif()

string(CONCAT advice "pip's isolated build brings them; otherwise `pip install cmeel-eigen`, or Debian's libeigen3-dev, or pass "
           "-DEigen3_DIR=<folder of Eigen3Config.cmake>")
if(NOT Eigen3_FOUND)
  message(FATAL_ERROR "cnnlib needs the headers of Eigen 3.4 or 5 and found none: ${advice}")
elseif(Eigen3_VERSION VERSION_LESS 3.4 OR Eigen3_VERSION VERSION_GREATER_EQUAL 6)
  message(FATAL_ERROR "cnnlib needs the headers of Eigen 3.4 or 5 and found ${Eigen3_VERSION} in ${Eigen3_DIR}: "
                      "${advice}")
endif()
message(STATUS "Eigen ${Eigen3_VERSION} in ${Eigen3_DIR}")
