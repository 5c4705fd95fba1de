# What `cmake --install` puts where: library, header, programs, and the two ways to find them (CMake package, pkg-config).
include(CMakePackageConfigHelpers)
set(gnv_package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/ggml-nvfp4)

install(TARGETS ggml-nvfp4 EXPORT ggml-nvfp4-targets)
install(DIRECTORY ggml-nvfp4/include/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(EXPORT ggml-nvfp4-targets NAMESPACE ggml-nvfp4:: DESTINATION ${gnv_package_dir})

# Of the C++ library, for the linker of a program in C.
set(GNV_CXX_LIBRARIES ${CMAKE_CXX_IMPLICIT_LINK_LIBRARIES})
list(FILTER GNV_CXX_LIBRARIES INCLUDE REGEX "^(stdc\\+\\+|c\\+\\+|c\\+\\+abi|m)$")
list(REMOVE_DUPLICATES GNV_CXX_LIBRARIES)
configure_package_config_file(cmake/ggml-nvfp4-config.cmake.in ${CMAKE_BINARY_DIR}/ggml-nvfp4-config.cmake
    INSTALL_DESTINATION ${gnv_package_dir})
write_basic_package_version_file(${CMAKE_BINARY_DIR}/ggml-nvfp4-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/ggml-nvfp4-config.cmake ${CMAKE_BINARY_DIR}/ggml-nvfp4-config-version.cmake
              cmake/gnv_dependencies.cmake cmake/dependencies.txt
        DESTINATION ${gnv_package_dir})

# A static library hands on what it links, a shared one keeps it to itself. Link flags alone, and no "Requires": that would
# add the compile flags of libraries whose headers no user sees.
set(gnv_pc_libraries "")
if(NOT BUILD_SHARED_LIBS)
    list(TRANSFORM GNV_CXX_LIBRARIES PREPEND "-l" OUTPUT_VARIABLE gnv_pc_libraries)
    list(PREPEND gnv_pc_libraries ${GNV_LINK_FLAGS})
    list(JOIN gnv_pc_libraries " " gnv_pc_libraries)
endif()
file(RELATIVE_PATH gnv_pc_prefix ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
string(REGEX REPLACE "/$" "" gnv_pc_prefix "${gnv_pc_prefix}")
configure_file(cmake/ggml-nvfp4.pc.in ${CMAKE_BINARY_DIR}/ggml-nvfp4.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/ggml-nvfp4.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
