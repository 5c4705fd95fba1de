# Tests in which calls of the operating system fail: see fault_shim.h. Linux with the GNU C library only.
if(NOT CMAKE_SYSTEM_NAME STREQUAL "Linux")
    return()
endif()
enable_language(C)
find_package(Threads REQUIRED)

gnv_test(test_faults
    faults/failing_new.cpp
    faults/fault_names.c
    faults/fault_shim.c
    faults/test_calibrate_faults.cpp
    faults/test_evaluate_faults.cpp
    faults/test_faults.cpp
    faults/test_image_faults.cpp
    faults/test_packing_faults.cpp
    faults/test_verify_faults.cpp
)
target_link_libraries(test_faults PRIVATE ${CMAKE_DL_LIBS})

# The same preloaded into the programs. Under GCC's AddressSanitizer, which is a library that the shim can stand before,
# the shim has operator new as well, and LeakSanitizer looks at every run; other sanitizers do without this test.
if(GNV_BUILD_TOOLS AND (NOT GNV_SANITIZE OR (GNV_SANITIZE MATCHES "address" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")))
    add_library(fault_shim MODULE faults/fault_names.c faults/fault_shim.c)
    target_compile_definitions(fault_shim PRIVATE FAULT_PRELOADED)
    if(GNV_SANITIZE)
        target_sources(fault_shim PRIVATE faults/failing_new.cpp)
        target_include_directories(fault_shim PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
        target_compile_definitions(fault_shim PRIVATE FAULT_SANITIZED)
    endif()
    target_link_libraries(fault_shim PRIVATE ${CMAKE_DL_LIBS})
    gnv_test(test_programs
        faults/fault_names.c
        faults/test_program_ends.cpp
        faults/test_programs.cpp
        faults/test_verify_ends.cpp
    )
    target_compile_definitions(test_programs PRIVATE GNV_FAULT_SHIM="$<TARGET_FILE:fault_shim>")
    add_dependencies(test_programs fault_shim dataset inspect quantize run tokenize verify)
endif()
