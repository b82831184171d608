# Installs into an empty prefix, builds the applications against it, and runs them without a model.
set(prefix ${BUILD}/install-test)
file(REMOVE_RECURSE ${prefix})
function(run)
  execute_process(COMMAND ${ARGN} COMMAND_ERROR_IS_FATAL ANY OUTPUT_QUIET)
endfunction()
run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${prefix})
run(${CMAKE_COMMAND} -G ${GENERATOR} -S ${SOURCE} -B ${prefix}/application -D CMAKE_BUILD_TYPE=Release
    -D CMAKE_PREFIX_PATH=${prefix})
run(${CMAKE_COMMAND} --build ${prefix}/application)
run(${prefix}/bin/minim --help)
foreach(application 01_load_and_run 05_serve_in_process)
  execute_process(COMMAND ${prefix}/application/${application} absent.onnx RESULT_VARIABLE code
    ERROR_VARIABLE message)
  if(NOT code EQUAL 1 OR NOT message MATCHES "absent.onnx")
    message(FATAL_ERROR "${application} should name the missing file; it returned ${code}: ${message}")
  endif()
endforeach()
