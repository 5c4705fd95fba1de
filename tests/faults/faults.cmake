# Tests in which calls of the operating system fail: see fault_shim.h. Linux with the GNU C library only.
if(NOT CMAKE_SYSTEM_NAME STREQUAL "Linux")
    return()
endif()
enable_language(C)
find_package(Threads REQUIRED)

gnv_test(test_faults
    faults/failing_new.cpp
    faults/fault_shim.c
    faults/test_faults.cpp
    faults/test_verify_faults.cpp
)
target_link_libraries(test_faults PRIVATE ${CMAKE_DL_LIBS})
