# cmake --install: the binary, the libraries, the public headers, and what find_package(minim) reads.
include(CMakePackageConfigHelpers)

# What an application links: the whole of include/minim.
add_library(minim_minim INTERFACE)
set_target_properties(minim_minim PROPERTIES EXPORT_NAME minim)
target_link_libraries(minim_minim INTERFACE minim_train minim_serve)
install(TARGETS minim_minim EXPORT minim-targets)

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/minim)
install(DIRECTORY include/minim DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT minim-targets NAMESPACE minim:: DESTINATION ${package_dir})
configure_package_config_file(cmake/minimConfig.cmake.in ${PROJECT_BINARY_DIR}/minimConfig.cmake
  INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/minimConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/minimConfig.cmake ${PROJECT_BINARY_DIR}/minimConfigVersion.cmake
  DESTINATION ${package_dir})
