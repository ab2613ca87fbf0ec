# libresty_ts_node<ABI>.so: the embedded runtime and the addon, linked against one libnode.
set(RTS_LIBNODE_FILE ${PROJECT_SOURCE_DIR}/.deps/libnode.json CACHE FILEPATH "the libnode to build for")
if(NOT EXISTS ${RTS_LIBNODE_FILE})
  message(FATAL_ERROR "no ${RTS_LIBNODE_FILE}: run `node scripts/setup.mjs` first")
endif()
set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${RTS_LIBNODE_FILE})
file(READ ${RTS_LIBNODE_FILE} RTS_LIBNODE_JSON)
string(JSON RTS_ABI GET ${RTS_LIBNODE_JSON} abi)
string(JSON RTS_LIBNODE GET ${RTS_LIBNODE_JSON} lib)
string(JSON RTS_NODE_INCLUDE GET ${RTS_LIBNODE_JSON} includeDir)
string(JSON RTS_UV_INCLUDE GET ${RTS_LIBNODE_JSON} uvInclude)
string(JSON RTS_LIBUV GET ${RTS_LIBNODE_JSON} uvLib)

set(backend resty_ts_node${RTS_ABI})
add_library(${backend} SHARED ${RTS_EMBEDDED} ${RTS_ADDON} $<TARGET_OBJECTS:resty_ts_channel>)
rts_shared_library(${backend})
if(RTS_ABI GREATER_EQUAL 137)
  set_target_properties(${backend} PROPERTIES CXX_STANDARD 20)
else()
  set_target_properties(${backend} PROPERTIES CXX_STANDARD 17)
endif()
# A private libnode lies beside the library (scripts/build.mjs); the path of the build machine stays out of it.
set_target_properties(${backend} PROPERTIES BUILD_WITH_INSTALL_RPATH ON INSTALL_RPATH "$ORIGIN/libnode")
# Node's headers do not meet our warnings, so they count as the system's.
target_include_directories(${backend} SYSTEM PRIVATE
  ${RTS_NODE_INCLUDE} ${RTS_UV_INCLUDE} ${PROJECT_SOURCE_DIR}/node_modules/node-addon-api)
target_compile_definitions(${backend} PRIVATE RTS_ABI=${RTS_ABI} NAPI_VERSION=8
  NODE_ADDON_API_DISABLE_CPP_EXCEPTIONS NODE_ADDON_API_DISABLE_DEPRECATED)
# Node is built without RTTI: a typeinfo of one of its classes would be undefined here.
target_compile_options(${backend} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-fno-rtti -fno-exceptions>)
target_link_libraries(${backend} PRIVATE ${RTS_LIBNODE} ${RTS_LIBUV})
