# env/step.h compiled for a GPU where RISTRETTO_GPU says so.
function(ristretto_gpu_step target)
  if(RISTRETTO_GPU STREQUAL "cuda")
    ristretto_cuda_kernels(${target})
  elseif(RISTRETTO_GPU STREQUAL "hip")
    ristretto_hip_kernels(${target})
  elseif(NOT RISTRETTO_GPU STREQUAL "off")
    message(FATAL_ERROR "RISTRETTO_GPU is '${RISTRETTO_GPU}', expected off, cuda or hip")
  endif()
endfunction()

if(RISTRETTO_GPU STREQUAL "cuda")
  # Code for each of these, and PTX of the last for what comes later.
  set(CMAKE_CUDA_ARCHITECTURES "75-real;80-real;86-real;89-real;90" CACHE STRING "CUDA architectures")
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)
endif()

function(ristretto_cuda_kernels target)
  add_library(step_gpu OBJECT env/step_gpu.cu)
  # In place of the directory's options, which are g++'s. A contracted multiply-add would change the signature, and CMake
  # 3.25 knows no CUDA 20.
  set_target_properties(step_gpu PROPERTIES COMPILE_OPTIONS "--fmad=false" CUDA_STANDARD 17)
  target_sources(${target} PRIVATE $<TARGET_OBJECTS:step_gpu>)
  target_compile_definitions(${target} PUBLIC RISTRETTO_WITH_GPU)
  target_link_libraries(${target} PUBLIC CUDA::cudart_static)
endfunction()

# By a command of our own: enable_language(HIP) fails with Debian's packages.
function(ristretto_hip_kernels target)
  set(RISTRETTO_HIP_ARCHITECTURES "gfx1100" CACHE STRING "AMD architectures, as --offload-arch takes them")
  find_program(HIPCC hipcc PATHS /opt/rocm/bin REQUIRED)
  # PyTorch's wheels bring their own; a second HIP runtime in one process would not know the first one's memory.
  find_library(AMDHIP64 amdhip64 HINTS ${LIBTORCH}/lib PATHS /opt/rocm/lib REQUIRED)
  list(TRANSFORM RISTRETTO_HIP_ARCHITECTURES PREPEND "--offload-arch=" OUTPUT_VARIABLE options)
  ristretto_debian_bitcode(directory)
  if(directory)
    list(APPEND options --rocm-device-lib-path=${directory})
  endif()

  set(object ${PROJECT_BINARY_DIR}/step_gpu.o)
  add_custom_command(
    OUTPUT ${object}
    COMMAND ${HIPCC} -x hip -std=c++17 -O3 -ffp-contract=off -fPIC ${options} -I${PROJECT_SOURCE_DIR}
            -MD -MF ${object}.d -c ${PROJECT_SOURCE_DIR}/env/step_gpu.cu -o ${object}
    MAIN_DEPENDENCY ${PROJECT_SOURCE_DIR}/env/step_gpu.cu
    DEPFILE ${object}.d
    COMMENT "Building HIP object step_gpu.o"
    VERBATIM COMMAND_EXPAND_LISTS)
  target_sources(${target} PRIVATE ${object})
  target_compile_definitions(${target} PUBLIC RISTRETTO_WITH_GPU)
  target_link_libraries(${target} PUBLIC ${AMDHIP64})
endfunction()

# Debian 12's ROCm 5.2 compiles for gfx1100 but lacks one file of constants for it: a directory with all of its device
# libraries and that file, made from gfx1030's. Empty where the file is there, or where hipcc is not Debian's.
function(ristretto_debian_bitcode result)
  set(${result} "" PARENT_SCOPE)
  set(system /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE}/amdgcn/bitcode)
  if(NOT HIPCC STREQUAL "/usr/bin/hipcc" OR NOT EXISTS ${system}/oclc_isa_version_1030.bc
     OR EXISTS ${system}/oclc_isa_version_1100.bc)
    return()
  endif()
  find_program(LLVM_DIS llvm-dis-15 REQUIRED)
  find_program(LLVM_AS llvm-as-15 REQUIRED)
  set(directory ${PROJECT_BINARY_DIR}/amdgcn)
  file(MAKE_DIRECTORY ${directory})
  file(GLOB libraries ${system}/*.bc)
  foreach(library IN LISTS libraries)
    cmake_path(GET library FILENAME name)
    file(CREATE_LINK ${library} ${directory}/${name} SYMBOLIC)
  endforeach()
  execute_process(COMMAND ${LLVM_DIS} ${system}/oclc_isa_version_1030.bc -o ${directory}/isa.ll
                  COMMAND_ERROR_IS_FATAL ANY)
  file(READ ${directory}/isa.ll text)
  string(REPLACE "i32 10300" "i32 11000" text "${text}")
  file(WRITE ${directory}/isa.ll "${text}")
  execute_process(COMMAND ${LLVM_AS} ${directory}/isa.ll -o ${directory}/oclc_isa_version_1100.bc
                  COMMAND_ERROR_IS_FATAL ANY)
  set(${result} ${directory} PARENT_SCOPE)
endfunction()
